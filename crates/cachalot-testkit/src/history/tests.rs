use super::*;

const HERE: ProcessId = 1;
const THERE: ProcessId = 2;
const GRACE: Duration = Duration::from_millis(100);

/// A history told in milliseconds, of one key.
#[derive(Clone)]
struct Tale {
    history: History<&'static str>,
}

impl Tale {
    fn new() -> Self {
        Self { history: History::new(GRACE) }
    }

    /// The source changes, and `HERE` says so to its cache.
    fn changed(how: How, done: Done) -> Self {
        let mut tale = Self::new();
        tale.history.write("k");
        let begun = tale.history.begin_invalidation(HERE, "k", how, ms(10));
        tale.history.end_invalidation(begun, done, ms(20));
        tale
    }

    fn read(mut self, by: Reader, at: u64, seen: Option<Seen>) -> Self {
        let read = self.history.begin_read(by, "k", ms(at));
        self.history.end_read(read, seen, ms(at + 1));
        self
    }

    fn holds(&self) -> bool {
        self.history.check().is_ok()
    }
}

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn version(version: u64) -> Option<Seen> {
    Some(Seen { version, is_fallback: false })
}

fn fallback(version: u64) -> Option<Seen> {
    Some(Seen { version, is_fallback: true })
}

const READERS: [Reader; 3] = [Reader::Process(HERE), Reader::Fresh, Reader::Process(THERE)];

#[test]
fn nobody_was_promised_anything_by_nobody() {
    for by in READERS {
        let mut tale = Tale::new();
        tale.history.write("k");
        assert!(tale.read(by, 1_000, version(1)).holds());
    }
}

#[test]
fn after_a_removal_its_process_and_the_shared_tier_show_nothing_older() {
    for by in [Reader::Process(HERE), Reader::Fresh] {
        let after = || Tale::changed(How::Remove, Done::Everywhere);
        assert!(!after().read(by, 20, version(1)).holds());
        assert!(!after().read(by, 20, fallback(1)).holds());
        assert!(after().read(by, 20, version(2)).holds());
        assert!(after().read(by, 20, None).holds());
    }
}

#[test]
fn another_process_has_its_grace() {
    let after = || Tale::changed(How::Remove, Done::Everywhere);
    assert!(after().read(Reader::Process(THERE), 120, version(1)).holds());
    assert!(!after().read(Reader::Process(THERE), 121, version(1)).holds());
    assert!(after().read(Reader::Process(THERE), 121, version(2)).holds());
}

#[test]
fn a_read_that_began_before_the_end_may_see_either() {
    let mut tale = Tale::new();
    tale.history.write("k");
    let begun = tale.history.begin_invalidation(HERE, "k", How::Remove, ms(10));
    let reads = READERS.map(|by| tale.history.begin_read(by, "k", ms(15)));
    tale.history.end_invalidation(begun, Done::Everywhere, ms(20));
    for read in reads {
        tale.history.end_read(read, version(1), ms(500));
    }
    assert!(tale.holds());
}

#[test]
fn what_happens_at_the_same_time_still_has_an_order() {
    let mut tale = Tale::new();
    tale.history.write("k");
    let early = tale.history.begin_read(Reader::Fresh, "k", ms(5));
    let begun = tale.history.begin_invalidation(HERE, "k", How::Remove, ms(5));
    tale.history.end_invalidation(begun, Done::Everywhere, ms(5));
    tale.history.end_read(early, version(1), ms(5));
    assert!(tale.holds());
    assert!(!tale.read(Reader::Fresh, 5, version(1)).holds());
}

#[test]
fn an_expired_value_is_shown_only_for_a_failed_load() {
    for by in [Reader::Process(HERE), Reader::Fresh] {
        let after = || Tale::changed(How::Expire, Done::Everywhere);
        assert!(after().read(by, 30, fallback(1)).holds());
        assert!(!after().read(by, 30, version(1)).holds());
    }
}

#[test]
fn an_expired_value_that_was_removed_before_is_not_shown_at_all() {
    let mut tale = Tale::changed(How::Remove, Done::Everywhere);
    let begun = tale.history.begin_invalidation(HERE, "k", How::Expire, ms(30));
    tale.history.end_invalidation(begun, Done::Everywhere, ms(40));
    assert!(!tale.read(Reader::Fresh, 50, fallback(1)).holds());
}

#[test]
fn a_deferred_removal_binds_its_process_at_once_and_the_others_when_it_is_settled() {
    let after = || Tale::changed(How::Remove, Done::Deferred);
    assert!(!after().read(Reader::Process(HERE), 30, version(1)).holds());
    assert!(after().read(Reader::Fresh, 30, version(1)).holds());
    assert!(after().read(Reader::Process(THERE), 5_000, version(1)).holds());
    let settled = || {
        let mut tale = after();
        tale.history.settle(HERE, ms(1_000));
        tale
    };
    assert!(!settled().read(Reader::Fresh, 1_000, version(1)).holds());
    assert!(settled().read(Reader::Process(THERE), 1_100, version(1)).holds());
    assert!(!settled().read(Reader::Process(THERE), 1_101, version(1)).holds());
}

#[test]
fn one_that_nobody_waited_for_binds_when_it_is_settled_and_not_if_its_process_died() {
    let begun = || {
        let mut tale = Tale::new();
        tale.history.write("k");
        tale.history.begin_invalidation(HERE, "k", How::Remove, ms(10));
        tale
    };
    for by in READERS {
        assert!(begun().read(by, 9_000, version(1)).holds());
        let mut settled = begun();
        settled.history.settle(HERE, ms(1_000));
        assert!(!settled.read(by, 9_000, version(1)).holds());
        let mut other = begun();
        other.history.settle(THERE, ms(1_000));
        assert!(other.read(by, 9_000, version(1)).holds());
    }
}

#[test]
fn an_invalidation_covers_what_the_source_had_when_it_began() {
    let mut tale = Tale::changed(How::Remove, Done::Everywhere);
    tale.history.write("k");
    assert!(tale.clone().read(Reader::Fresh, 30, version(2)).holds());
    assert!(!tale.read(Reader::Fresh, 30, version(1)).holds());
}

#[test]
fn keys_have_nothing_to_do_with_each_other() {
    let mut tale = Tale::changed(How::Remove, Done::Everywhere);
    let read = tale.history.begin_read(Reader::Fresh, "other", ms(30));
    tale.history.end_read(read, version(1), ms(31));
    assert!(tale.holds());
}

#[test]
fn nobody_reads_what_the_source_has_yet_to_take() {
    let mut tale = Tale::new();
    let read = tale.history.begin_read(Reader::Fresh, "k", ms(1));
    tale.history.end_read(read, version(2), ms(2));
    tale.history.write("k");
    assert!(!tale.holds());
    let mut late = Tale::new();
    let read = late.history.begin_read(Reader::Fresh, "k", ms(1));
    late.history.write("k");
    late.history.end_read(read, version(2), ms(2));
    assert!(late.holds());
}

#[test]
fn a_broken_promise_is_told_with_both_sides() {
    let tale = Tale::changed(How::Insert, Done::Everywhere).read(Reader::Fresh, 30, version(1));
    let broken = tale.history.check().unwrap_err().to_string();
    assert_eq!(
        broken,
        "read 0, of \"k\" by Fresh from 30 to 31 ms: saw Seen { version: 1, is_fallback: false }, against the \
         Insert that process 1 began at 10 ms over version 2, done there at 20 ms, in the shared tier at 20 ms"
    );
}

#[test]
fn reads_and_promises_are_counted() {
    let tale = Tale::changed(How::Remove, Done::Deferred).read(Reader::Fresh, 30, None);
    assert_eq!((tale.history.reads(), tale.history.promises()), (1, 1));
    let mut open = Tale::new();
    open.history.begin_read(Reader::Fresh, "k", ms(1));
    open.history.begin_invalidation(HERE, "k", How::Remove, ms(1));
    assert_eq!((open.history.reads(), open.history.promises()), (0, 0));
}

/// `HERE` has invalidated at 10 ms and was never answered; the shared tier took it at 15 ms, if it did.
fn unanswered(is_landed: bool) -> Tale {
    let mut tale = Tale { history: History::new(Duration::MAX) };
    tale.history.write("k");
    let begun = tale.history.begin_invalidation(HERE, "k", How::Remove, ms(10));
    if is_landed {
        tale.history.land_invalidation(begun, ms(15));
    }
    tale
}

#[test]
fn what_has_landed_binds_the_shared_tier_and_who_was_told_after_that_and_nobody_else() {
    let old = |tale: &Tale, by| tale.clone().read(by, 30, version(1)).holds();
    let mut tale = unanswered(true);
    assert_eq!(READERS.map(|by| old(&tale, by)), [true, false, true]);
    tale.history.tell(THERE, Some(&"another"), false, ms(20));
    tale.history.tell(THERE, Some(&"k"), true, ms(20));
    assert!(old(&tale, Reader::Process(THERE)), "neither message was about it");
    tale.history.tell(THERE, Some(&"k"), false, ms(20));
    assert_eq!(READERS.map(|by| old(&tale, by)), [true, false, false]);
}

#[test]
fn a_gap_binds_to_everything_that_has_landed_and_to_nothing_that_has_not() {
    for is_landed in [false, true] {
        let mut tale = unanswered(is_landed);
        tale.history.tell(THERE, None, false, ms(20));
        assert_eq!(tale.read(Reader::Process(THERE), 30, version(1)).holds(), !is_landed);
    }
}

#[test]
fn in_the_end_a_process_is_bound_to_all_that_it_has_met() {
    for has_met in [false, true] {
        let mut tale = unanswered(true);
        tale.history.converge(THERE, |_| has_met, ms(20));
        assert_eq!(tale.read(Reader::Process(THERE), 30, version(1)).holds(), !has_met);
    }
}
