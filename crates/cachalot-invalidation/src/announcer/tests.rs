//! What is sent when, under which number.

use cachalot_core::ManualClock;

use super::*;

const US: PublisherId = PublisherId::from_bytes([1; 16]);
const A: PublisherId = PublisherId::from_bytes([0xa; 16]);
const MS: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_millis(2);

struct Case {
    clock: ManualClock,
    announcer: Announcer,
}

impl Case {
    /// A publisher that has said hello.
    fn new() -> Self {
        Self::with(AnnouncerSettings::default())
    }

    fn with(settings: AnnouncerSettings) -> Self {
        let clock = ManualClock::new();
        let users = Namespace::new("users").unwrap();
        let announcer = Announcer::new(US, users, settings, Entropy::seeded(1), clock.now());
        let mut case = Self { clock, announcer };
        assert!(matches!(case.send(), Some(Body::Heartbeat { last: 0, confirm: false, .. })));
        case
    }

    fn look(&mut self) -> Next {
        self.announcer.next(self.clock.now())
    }

    /// What is due now, if anything.
    fn due(&mut self) -> Option<Body> {
        match self.look() {
            Next::Send(message) => Some(message.body),
            Next::Wait(_) | Next::Done => None,
        }
    }

    /// Sends what is due now.
    fn send(&mut self) -> Option<Body> {
        let body = self.due()?;
        self.announcer.sent(self.clock.now());
        Some(body)
    }

    /// Sends all that is due, letting the pauses pass.
    fn send_all(&mut self) -> Vec<Body> {
        let mut sent = Vec::new();
        for _ in 0..200 {
            sent.extend(self.send());
            self.clock.advance(PAUSE);
        }
        sent.retain(|body| !matches!(body, Body::Heartbeat { .. }));
        sent
    }

    fn fail(&mut self, kind: ErrorKind) {
        let error = Error::new(kind, "publish");
        self.announcer.failed(&error, self.clock.now());
    }

    fn key(&mut self, n: u32) -> u64 {
        self.announcer.announce(key(n, false), false)
    }

    /// Lets time pass until something is to be sent, and says how long that took.
    fn wait(&mut self) -> Duration {
        let before = self.clock.now();
        while let Next::Wait(until) = self.look() {
            self.clock.advance(until.since(self.clock.now()).max(MS));
        }
        self.clock.now().since(before)
    }
}

fn key(n: u32, pending: bool) -> Subject {
    Subject::Key { key: Key::new(format!("users:{n}")), pending }
}

fn invalidations(sequence: u64, subjects: impl IntoIterator<Item = Subject>) -> Body {
    Body::Invalidations { sequence, confirm: false, subjects: subjects.into_iter().collect() }
}

fn heartbeat(last: u64, confirm: bool) -> Body {
    Body::Heartbeat { last, every: Duration::from_secs(2), confirm }
}

#[test]
fn the_first_word_is_a_heartbeat_so_that_its_silence_can_be_noticed() {
    let clock = ManualClock::new();
    let users = Namespace::new("users").unwrap();
    let settings = AnnouncerSettings::default();
    let mut announcer = Announcer::new(US, users, settings, Entropy::seeded(1), clock.now());
    announcer.announce(key(1, false), false);
    let Next::Send(first) = announcer.next(clock.now()) else { panic!("it is due") };
    assert_eq!((first.publisher, first.body), (US, heartbeat(0, false)));
}

#[test]
fn what_comes_after_a_quiet_time_goes_at_once() {
    let mut it = Case::new();
    assert_eq!(it.key(1), 1);
    assert_eq!(it.send(), Some(invalidations(1, [key(1, false)])));
    assert!(matches!(it.look(), Next::Wait(_)));
}

#[test]
fn a_number_is_given_when_the_message_goes_and_no_heartbeat_speaks_of_it_before() {
    let mut it = Case::new();
    assert_eq!(it.key(1), 1);
    assert!(it.send().is_some());
    assert_eq!(it.key(2), 2);
    it.announcer.ask_again(it.clock.now());
    assert_eq!(it.send(), Some(heartbeat(1, true)), "2 has not gone");
    it.clock.advance(PAUSE);
    assert_eq!(it.send(), Some(invalidations(2, [key(2, false)])));
}

#[test]
fn a_storm_is_gathered_and_each_subject_goes_once() {
    let mut it = Case::new();
    for n in 0..100_000 {
        it.key(n % 1_000);
    }
    let sent = it.send_all();
    assert_eq!(sent.len(), 2);
    let subjects: usize = sent
        .iter()
        .map(|body| match body {
            Body::Invalidations { subjects, .. } => subjects.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(subjects, 1_000);
}

#[test]
fn storms_are_bounded_in_rate() {
    let mut it = Case::new();
    let begin = it.clock.now();
    let mut sent = 0;
    for n in 0.. {
        if it.clock.now().since(begin) >= Duration::from_secs(1) {
            break;
        }
        it.key(n);
        sent += u32::from(matches!(it.send(), Some(Body::Invalidations { .. })));
        it.clock.advance(MS);
    }
    assert_eq!(sent, 500);
}

#[test]
fn the_newest_word_on_a_subject_wins() {
    let mut it = Case::new();
    it.key(0);
    assert!(it.send().is_some());
    let first = it.announcer.announce(key(1, true), false);
    it.key(2);
    let second = it.announcer.announce(key(1, false), false);
    assert_eq!((first, second), (2, 2));
    assert_eq!(it.send_all(), [invalidations(2, [key(1, false), key(2, false)])]);
}

#[test]
fn what_is_announced_while_the_same_is_under_way_goes_again() {
    let mut it = Case::new();
    assert_eq!(it.key(1), 1);
    assert!(it.due().is_some());
    assert_eq!(it.key(1), 2);
    assert_eq!(it.send_all(), [invalidations(1, [key(1, false)]), invalidations(2, [key(1, false)])]);
}

#[test]
fn a_failed_message_is_sent_again_under_its_number() {
    let mut it = Case::new();
    assert_eq!(it.key(1), 1);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(it.due(), Some(invalidations(1, [key(1, false)])));
        it.fail(ErrorKind::Unavailable);
        pauses.push(it.wait());
    }
    assert_eq!(it.announcer.failures(), 10);
    assert!(pauses.iter().all(|pause| *pause >= MS && *pause <= LONGEST_PAUSE), "{pauses:?}");
    assert!(pauses[5..].iter().max() > pauses[..2].iter().max(), "{pauses:?}");
    assert_eq!(it.key(2), 2);
    it.wait();
    assert_eq!(it.send(), Some(invalidations(1, [key(1, false)])));
    assert_eq!(it.announcer.failures(), 0);
    it.clock.advance(PAUSE);
    it.wait();
    let rest = it.send_all();
    assert_eq!(rest, [invalidations(2, [key(2, false)])]);
}

#[test]
fn a_message_that_cannot_be_sent_leaves_its_number_used() {
    let mut it = Case::new();
    assert_eq!(it.key(1), 1);
    assert!(it.due().is_some());
    it.fail(ErrorKind::Config);
    assert_eq!(it.announcer.dropped(), 1);
    it.wait();
    assert_eq!(it.send(), Some(heartbeat(1, false)), "others learn at once what they miss");
    assert_eq!(it.key(2), 2);
    assert_eq!(it.send(), Some(invalidations(2, [key(2, false)])));
}

#[test]
fn when_too_much_waits_it_is_missing_for_all_others_and_memory_is_bounded() {
    let mut it = Case::with(AnnouncerSettings::default().max_subjects(1_000));
    let mut promised = 0;
    for n in 0..10_000 {
        promised = it.key(n);
        assert!(it.announcer.waiting() <= 1_000);
    }
    let dropped = it.announcer.dropped();
    assert!(dropped > 0);
    assert_eq!(it.send(), Some(heartbeat(dropped, false)), "others learn at once what they miss");
    assert!(promised > dropped);
    let sent = it.send_all();
    let last = sent.last().map(|body| match body {
        Body::Invalidations { sequence, .. } => *sequence,
        other => panic!("{other:?}"),
    });
    assert_eq!(last, Some(promised));
    assert_eq!(sent.len() as u64 + dropped, promised, "each number is sent or missing");
}

#[test]
fn long_names_are_bounded_by_their_bytes() {
    let mut it = Case::with(AnnouncerSettings::default().max_bytes(10_000));
    let long = |n: u32| Subject::Key { key: Key::new(format!("{n:04000}")), pending: false };
    for n in 0..3 {
        it.announcer.announce(long(n), false);
    }
    assert_eq!((it.announcer.dropped(), it.announcer.waiting()), (2, 0));
    assert_eq!(it.announcer.announce(long(3), false), 3);
}

#[test]
fn every_batch_fits_a_message() {
    let mut it = Case::new();
    for n in 0..100 {
        let name = Key::new(format!("{n:020000}"));
        it.announcer.announce(Subject::Key { key: name, pending: false }, false);
    }
    let sent = it.send_all();
    let mut expected = 1;
    for body in sent {
        let message = Message { publisher: US, namespace: Namespace::new("users").unwrap(), body };
        assert!(message.encode().unwrap().len() < 100_000);
        let Body::Invalidations { sequence, .. } = message.body else { panic!("{message:?}") };
        assert_eq!(sequence, expected);
        expected += 1;
    }
    assert_eq!(expected - 1, it.announcer.last());
}

#[test]
fn heartbeats_come_regularly_also_in_a_storm() {
    let mut it = Case::new();
    let mut heartbeats = 0;
    for n in 0..10_000 {
        it.key(n);
        heartbeats += u32::from(matches!(it.send(), Some(Body::Heartbeat { .. })));
        it.clock.advance(MS);
    }
    assert_eq!(heartbeats, 4, "at 2, 4, 6 and 8 s");
}

#[test]
fn a_failed_heartbeat_is_replaced_by_one_that_knows_more() {
    let mut it = Case::new();
    it.announcer.ask_again(it.clock.now());
    assert_eq!(it.due(), Some(heartbeat(0, true)));
    it.fail(ErrorKind::Timeout);
    it.wait();
    assert_eq!(it.send(), Some(heartbeat(0, true)), "what was asked is asked again");
    assert_eq!(it.send(), None);
}

#[test]
fn the_number_that_a_caller_waits_for_is_the_one_it_goes_under() {
    let mut it = Case::new();
    let promised: Vec<u64> = (0..2_000).map(|n| it.announcer.announce(key(n, false), true)).collect();
    for body in it.send_all() {
        let Body::Invalidations { sequence, confirm: true, subjects } = body else { panic!("{body:?}") };
        for subject in subjects {
            let n = (0..2_000).find(|n| key(*n, false) == subject).unwrap();
            assert_eq!(promised[n as usize], sequence);
        }
    }
    assert_eq!(it.announcer.announce_all([key(1, false), key(2, false)], false), 5);
    assert_eq!(it.announcer.announce_all([], false), 0);
}

#[test]
fn dropped_messages_are_still_confirmed_by_a_heartbeat() {
    let mut it = Case::with(AnnouncerSettings::default().max_subjects(1));
    it.announcer.announce(key(1, false), true);
    it.announcer.announce(key(2, false), false);
    assert_eq!(it.send(), Some(heartbeat(2, true)));
    it.announcer.announce(key(3, false), true);
    assert!(it.due().is_some());
    it.fail(ErrorKind::Config);
    it.wait();
    assert_eq!(it.send(), Some(heartbeat(3, true)));
}

#[test]
fn acknowledgements_go_first_and_only_the_newest() {
    let mut it = Case::new();
    it.key(1);
    for up_to in [3, 9, 7] {
        it.announcer.acknowledge(A, up_to);
    }
    assert_eq!(it.send(), Some(Body::Ack { of: A, up_to: 9 }));
    assert!(matches!(it.send(), Some(Body::Invalidations { .. })));
}

#[test]
fn hints_are_gathered_bounded_and_not_repeated_after_a_failure() {
    let mut it = Case::new();
    for n in 0..10_000u32 {
        it.announcer.lease_ended(Key::new(n.to_string()));
    }
    assert!(matches!(it.due(), Some(Body::LeasesEnded { keys }) if keys.len() == HINTS_PER_MESSAGE));
    it.fail(ErrorKind::Unavailable);
    it.wait();
    let sent = it.send_all();
    assert_eq!(sent.len(), MAX_HINTS / HINTS_PER_MESSAGE - 1);
}

#[test]
fn goodbye_comes_after_all_that_waits_and_ends_it() {
    let mut it = Case::new();
    it.key(1);
    assert!(it.send().is_some());
    it.key(2);
    it.announcer.leave();
    assert_eq!(it.send(), Some(invalidations(2, [key(2, false)])), "no pause is kept any more");
    assert_eq!(it.due(), Some(Body::Goodbye { last: 2 }));
    it.fail(ErrorKind::Unavailable);
    it.wait();
    assert_eq!(it.send(), Some(Body::Goodbye { last: 2 }));
    assert_eq!(it.look(), Next::Done);
    it.key(3);
    assert_eq!(it.look(), Next::Done);
}

#[test]
fn what_a_closed_bus_does_not_take_is_kept_and_tried_again() {
    let mut it = Case::new();
    it.key(1);
    let first = it.due();
    for _ in 0..20 {
        it.fail(ErrorKind::Closed);
        it.key(2);
        it.clock.advance(LONGEST_PAUSE);
        assert!(it.due().is_some(), "others may hear of it yet");
    }
    let sent = it.send_all();
    assert_eq!((sent.first(), sent.len()), (first.as_ref(), 2));
    assert_eq!(it.announcer.dropped(), 0);
}

#[test]
fn a_closed_bus_keeps_nobody_who_leaves_and_what_it_did_not_take_is_counted() {
    let mut it = Case::new();
    it.key(1);
    assert!(it.due().is_some());
    it.key(2);
    it.announcer.leave();
    it.fail(ErrorKind::Closed);
    it.clock.advance(LONGEST_PAUSE);
    assert_eq!((it.look(), it.announcer.dropped(), it.announcer.waiting()), (Next::Done, 2, 0));
}

#[test]
fn a_message_is_handed_out_until_it_is_reported_on() {
    let mut it = Case::new();
    it.key(1);
    assert_eq!(it.due(), it.due(), "the task that sent it may have been cancelled");
    assert!(it.send().is_some());
    assert!(it.due().is_none());
}

#[test]
fn what_is_promised_covers_all_that_was_announced() {
    let mut case = Case::new();
    assert_eq!(case.announcer.promised(), 0);
    let first = case.announcer.announce(Subject::Clear { pending: false }, true);
    assert_eq!((first, case.announcer.promised()), (1, 1));
    case.clock.advance(PAUSE);
    assert!(matches!(case.due(), Some(Body::Invalidations { sequence: 1, confirm: true, .. })));
    let second = case.announcer.announce(Subject::Tag { tag: "a".into(), pending: false }, false);
    assert_eq!((second, case.announcer.promised()), (2, 2), "one under way, one that waits");
    case.send_all();
    assert_eq!(case.announcer.promised(), 2);
}
