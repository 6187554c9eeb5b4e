//! Every cause of a gap by its name, and what is none.

use cachalot_core::ManualClock;

use super::*;

const US: PublisherId = PublisherId::from_bytes([1; 16]);
const A: PublisherId = PublisherId::from_bytes([0xa; 16]);
const B: PublisherId = PublisherId::from_bytes([0xb; 16]);
const EVERY: Duration = Duration::from_secs(2);

struct Case {
    clock: ManualClock,
    hearing: Hearing,
}

impl Case {
    fn new() -> Self {
        Self::with(HearingSettings::default())
    }

    fn with(settings: HearingSettings) -> Self {
        let hearing = Hearing::new(US, Namespace::new("users").unwrap(), settings);
        let mut case = Self { clock: ManualClock::new(), hearing };
        assert_eq!(case.on(BusEvent::Confirmed).gap, Some(GapCause::Subscribed));
        case
    }

    fn on(&mut self, event: BusEvent) -> Heard {
        self.hearing.on_event(event, self.clock.now())
    }

    fn hear(&mut self, publisher: PublisherId, body: Body) -> Heard {
        self.on(message(publisher, body))
    }

    /// The gap that an invalidation with this number brings; its subject is applied in any case.
    fn number(&mut self, publisher: PublisherId, sequence: u64) -> Option<GapCause> {
        let heard = self.hear(publisher, invalidation(sequence));
        assert_eq!(heard.deed, Deed::Apply(vec![subject()]));
        heard.gap
    }

    fn heartbeat(&mut self, publisher: PublisherId, last: u64) -> Option<GapCause> {
        self.hear(publisher, Body::Heartbeat { last, every: EVERY, confirm: false }).gap
    }

    fn goodbye(&mut self, publisher: PublisherId, last: u64) -> Option<GapCause> {
        self.hear(publisher, Body::Goodbye { last }).gap
    }

    fn later(&mut self, by: Duration) -> Option<GapCause> {
        self.clock.advance(by);
        self.hearing.on_time(self.clock.now()).gap
    }
}

fn message(publisher: PublisherId, body: Body) -> BusEvent {
    BusEvent::Message(Message { publisher, namespace: Namespace::new("users").unwrap(), body })
}

fn subject() -> Subject {
    Subject::Key { key: Key::new("users:7"), pending: false }
}

fn invalidation(sequence: u64) -> Body {
    Body::Invalidations { sequence, confirm: false, subjects: vec![subject()] }
}

#[test]
fn numbers_in_order_are_no_gap() {
    let mut it = Case::new();
    assert_eq!(it.heartbeat(A, 0), None);
    for sequence in 1..100 {
        assert_eq!(it.number(A, sequence), None);
        assert_eq!(it.heartbeat(A, sequence), None);
    }
    assert_eq!(it.goodbye(A, 99), None);
}

#[test]
fn a_jump_in_the_numbers_is_a_gap() {
    let mut it = Case::new();
    assert_eq!(it.number(A, 1), None);
    assert_eq!(it.number(A, 4), Some(GapCause::Jump { publisher: A, missed: 2 }));
    assert_eq!(it.number(A, 5), None, "once");
}

#[test]
fn a_heartbeat_that_speaks_of_more_is_a_gap() {
    let mut it = Case::new();
    assert_eq!(it.number(A, 1), None);
    assert_eq!(it.heartbeat(A, 3), Some(GapCause::Behind { publisher: A, missed: 2 }));
    assert_eq!(it.heartbeat(A, 3), None, "once");
    assert_eq!(it.number(A, 4), None);
}

#[test]
fn a_goodbye_that_speaks_of_more_is_a_gap() {
    let mut it = Case::new();
    assert_eq!(it.number(A, 1), None);
    assert_eq!(it.goodbye(A, 2), Some(GapCause::Behind { publisher: A, missed: 1 }));
}

#[test]
fn first_contact_with_history_is_a_gap() {
    let mut it = Case::new();
    assert_eq!(it.heartbeat(A, 1), Some(GapCause::History { publisher: A, last: 1 }));
    assert_eq!(it.number(B, 2), Some(GapCause::History { publisher: B, last: 1 }));
    assert_eq!(it.number(A, 2), None);
}

#[test]
fn first_contact_with_the_first_message_or_with_nothing_is_none() {
    let mut it = Case::new();
    assert_eq!(it.number(A, 1), None);
    assert_eq!(it.heartbeat(B, 0), None);
    assert_eq!(it.number(B, 1), None);
    assert_eq!(it.goodbye(PublisherId::from_bytes([0xc; 16]), 0), None);
}

#[test]
fn every_confirmed_subscription_is_a_gap() {
    let mut it = Case::new();
    assert_eq!(it.on(BusEvent::Interrupted), Heard::default());
    assert!(!it.hearing.is_listening());
    assert_eq!(it.on(BusEvent::Confirmed).gap, Some(GapCause::Subscribed));
    assert!(it.hearing.is_listening());
    assert_eq!(it.on(BusEvent::Confirmed).gap, Some(GapCause::Subscribed), "interrupted unnoticed");
}

#[test]
fn nobody_listens_before_the_subscription_is_confirmed() {
    let mut hearing = Hearing::new(US, Namespace::new("users").unwrap(), HearingSettings::default());
    assert!(!hearing.is_listening());
    let heard = hearing.on_event(BusEvent::Confirmed, ManualClock::new().now());
    assert!(heard.gap.is_some() && hearing.is_listening());
}

#[test]
fn a_resumed_subscription_is_no_gap() {
    let mut it = Case::new();
    assert_eq!(it.heartbeat(A, 0), None);
    let _ = it.on(BusEvent::Interrupted);
    it.clock.advance(EVERY * 100);
    assert_eq!(it.on(BusEvent::Resumed), Heard::default());
    assert!(it.hearing.is_listening());
    assert_eq!(it.later(EVERY), None, "its silence counts from the return on");
    assert_eq!(it.later(EVERY * 4), Some(GapCause::Silent { publisher: A }));
}

#[test]
fn the_silence_of_a_publisher_is_a_gap() {
    let mut it = Case::new();
    assert_eq!(it.heartbeat(A, 7).map(drop), Some(()));
    assert_eq!(it.later(EVERY * 4), None);
    assert_eq!(it.later(EVERY), Some(GapCause::Silent { publisher: A }));
    assert_eq!(it.later(EVERY * 100), None, "once");
    assert_eq!(it.hearing.publishers(), 0, "it is forgotten");
    assert_eq!(it.number(A, 8), Some(GapCause::History { publisher: A, last: 7 }), "and comes back");
}

#[test]
fn any_numbered_word_ends_a_silence() {
    let mut it = Case::new();
    assert_eq!(it.number(A, 1), None);
    for sequence in 2..50 {
        assert_eq!(it.later(EVERY * 4), None);
        assert_eq!(it.number(A, sequence), None);
    }
    assert_eq!(it.later(EVERY * 4), None);
    assert_eq!(it.heartbeat(A, 49), None);
    assert_eq!(it.later(EVERY * 4), None);
}

#[test]
fn a_silence_is_noticed_while_others_talk() {
    let mut it = Case::new();
    assert_eq!((it.heartbeat(A, 0), it.heartbeat(B, 0)), (None, None));
    let mut gaps = Vec::new();
    for _ in 0..20 {
        it.clock.advance(EVERY / 2);
        gaps.extend(it.heartbeat(B, 0));
    }
    assert_eq!(gaps, [GapCause::Silent { publisher: A }]);
}

#[test]
fn a_publisher_says_itself_how_often_it_is_heard_of() {
    let mut it = Case::new();
    let slow = Body::Heartbeat { last: 0, every: EVERY * 10, confirm: false };
    assert_eq!(it.hear(A, slow), Heard::default());
    assert_eq!(it.later(EVERY * 40), None);
    assert_eq!(it.later(EVERY * 10), Some(GapCause::Silent { publisher: A }));
    let never = Body::Heartbeat { last: 0, every: Duration::from_secs(1 << 30), confirm: false };
    assert_eq!(it.hear(B, never), Heard::default());
    assert_eq!(it.later(Duration::from_secs(300)), Some(GapCause::Silent { publisher: B }), "within bounds");
    let constantly = Body::Heartbeat { last: 0, every: Duration::ZERO, confirm: false };
    assert_eq!(it.hear(A, constantly), Heard::default());
    assert_eq!(it.later(Duration::from_millis(40)), None);
}

#[test]
fn who_said_goodbye_may_be_silent() {
    let mut it = Case::new();
    assert_eq!(it.number(A, 1), None);
    assert_eq!(it.goodbye(A, 1), None);
    assert_eq!(it.number(A, 1), None, "what comes late is no first contact");
    assert_eq!(it.later(EVERY * 100), None);
    assert_eq!(it.hearing.publishers(), 0);
}

#[test]
fn what_the_bus_has_dropped_is_a_gap() {
    for gap in [BusGap::Overflow, BusGap::Trimmed, BusGap::Reset, BusGap::Undecodable] {
        assert_eq!(Case::new().on(BusEvent::Gap(gap)).gap, Some(GapCause::Bus(gap)));
    }
}

#[test]
fn late_and_repeated_messages_are_applied_and_no_gap() {
    let mut it = Case::new();
    assert_eq!(it.number(A, 1), None);
    assert!(it.number(A, 3).is_some());
    assert_eq!(it.number(A, 2), None, "late");
    assert_eq!(it.number(A, 3), None, "twice");
    assert_eq!(it.number(A, 4), None);
}

#[test]
fn a_late_message_is_said_to_be_late() {
    let mut it = Case::new();
    let mut late = |sequence| it.hear(A, invalidation(sequence)).late;
    assert_eq!([1, 3, 2, 3, 4].map(&mut late), [false, false, true, true, false]);
}

#[test]
fn own_messages_are_ignored_and_those_of_another_cache_in_this_process_are_not() {
    let mut it = Case::new();
    assert_eq!(it.hear(US, invalidation(7)), Heard::default());
    assert_eq!(it.heartbeat(US, 9), None);
    assert_eq!(it.hearing.publishers(), 0);
    assert_eq!(it.number(B, 1), None);
}

#[test]
fn other_namespaces_are_ignored() {
    let mut it = Case::new();
    let namespace = Namespace::new("usersAbc").unwrap();
    let other = Message { publisher: A, namespace, body: invalidation(5) };
    assert_eq!(it.on(BusEvent::Message(other)), Heard::default());
    assert_eq!(it.hearing.publishers(), 0);
}

#[test]
fn acknowledgements_are_asked_for_and_counted() {
    let mut it = Case::new();
    let body = Body::Invalidations { sequence: 1, confirm: true, subjects: vec![subject()] };
    assert_eq!(it.hear(A, body.clone()).ack, Some((A, 1)));
    assert_eq!(it.hear(A, body).ack, Some((A, 1)), "again, if the first one was lost");
    let heard = it.hear(A, Body::Heartbeat { last: 3, every: EVERY, confirm: true });
    assert_eq!(heard.gap, Some(GapCause::Behind { publisher: A, missed: 2 }));
    assert_eq!(heard.ack, Some((A, 3)), "after the gap all of it counts as applied");
    let heard = it.hear(B, Body::Ack { of: US, up_to: 9 });
    assert_eq!(heard.deed, Deed::Acked { by: B, up_to: 9 });
    assert_eq!(it.hear(B, Body::Ack { of: A, up_to: 9 }), Heard::default());
}

#[test]
fn hints_wake_and_say_that_somebody_is_there() {
    let mut it = Case::new();
    let keys = vec![Key::new("users:7")];
    let heard = it.hear(A, Body::LeasesEnded { keys: keys.clone() });
    assert_eq!(heard, Heard::deed(Deed::Wake(keys)));
    assert_eq!(it.hearing.publishers(), 1);
}

#[test]
fn more_publishers_than_can_be_followed_are_a_gap_each_and_no_silence_is_lost() {
    let mut it = Case::with(HearingSettings::default().max_publishers(2));
    let publisher = |n: u8| PublisherId::from_bytes([n; 16]);
    assert_eq!(it.heartbeat(publisher(2), 0), None);
    it.clock.advance(EVERY / 2);
    assert_eq!(it.heartbeat(publisher(3), 0), None);
    assert_eq!(it.heartbeat(publisher(4), 0), Some(GapCause::Crowded));
    assert_eq!(it.hearing.publishers(), 2);
    for _ in 0..3 {
        assert_eq!(it.later(EVERY), None);
        assert_eq!((it.heartbeat(publisher(3), 0), it.heartbeat(publisher(4), 0)), (None, None));
    }
    assert_eq!(it.later(EVERY), Some(GapCause::Crowded), "the forgotten one has not been heard again");
    assert_eq!(it.heartbeat(publisher(3), 0), None);
    assert_eq!(it.later(EVERY), None);
}

#[test]
fn the_next_look_is_never_too_late() {
    let mut it = Case::new();
    assert_eq!(it.hearing.next_look(), None);
    assert_eq!(it.heartbeat(A, 0), None);
    let at = it.hearing.next_look().unwrap();
    assert_eq!(it.later(at.since(it.clock.now())), Some(GapCause::Silent { publisher: A }));
    assert_eq!(it.hearing.next_look(), None);
}

#[test]
fn the_greatest_number_does_no_harm() {
    let mut it = Case::new();
    assert_eq!(it.number(A, u64::MAX).map(drop), Some(()));
    assert_eq!(it.number(A, u64::MAX), None);
    assert_eq!(it.heartbeat(A, u64::MAX).map(drop), Some(()));
    assert!(it.heartbeat(B, u64::MAX).is_some());
}

#[test]
fn one_who_was_only_heard_between_its_numbers_is_missed_all_the_same() {
    for body in [
        Body::LeasesEnded { keys: vec![Key::new("users:1")] },
        Body::Ack { of: US, up_to: 1 },
        Body::Ack { of: B, up_to: 1 },
    ] {
        let mut silent = Case::new();
        assert_eq!(silent.hear(A, body.clone()).gap, None);
        assert_eq!(silent.later(EVERY * 5), Some(GapCause::Silent { publisher: A }));

        let mut behind = Case::new();
        let _ = behind.hear(A, body);
        assert_eq!(behind.heartbeat(A, 1), Some(GapCause::Behind { publisher: A, missed: 1 }));
    }
}
