//! The promise of announcer and hearing together: under any schedule of loss, repetition, reordering, failed
//! publishing, interrupted subscriptions and deaths, what was announced is applied, or a gap comes after it.
//!
//! Each seed is one schedule; a failure prints it. Deliberate mistakes prove that the test bites.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use cachalot_core::Body;
use cachalot_core::{
    BusEvent, BusGap, Entropy, Error, ErrorKind, Key, ManualClock, Message, Namespace, PublisherId, Subject,
};
use cachalot_invalidation::{
    Announcer, AnnouncerSettings, Deed, GapCause, Heard, Hearing, HearingSettings, Next,
};

const MS: Duration = Duration::from_millis(1);
const HEARTBEAT: Duration = Duration::from_millis(100);
const SEEDS: u64 = 3_000;

/// What the receiver or the publisher does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    IgnoresJumps,
    IgnoresHeartbeats,
    IgnoresHistory,
    IgnoresConfirmed,
    IgnoresSilence,
    IgnoresTheBus,
    ForgetsNumbersOfDroppedMessages,
    SaysGoodbyeFirst,
}

/// What can happen, as chances in a hundred.
#[derive(Clone, Copy)]
struct Weather {
    lost: u64,
    repeated: u64,
    failed: u64,
    accidents: u64,
}

const CALM: Weather = Weather { lost: 0, repeated: 0, failed: 0, accidents: 0 };
const STORM: Weather = Weather { lost: 30, repeated: 30, failed: 20, accidents: 3 };

struct Publisher {
    id: PublisherId,
    announcer: Announcer,
    alive: bool,
    leaves: bool,
    /// When the receiver last got something of it.
    heard: Option<u64>,
    /// By how much its numbers are too low, by a mistake.
    off: u64,
}

struct Announced {
    subject: Subject,
    step: u64,
}

struct World {
    dice: Entropy,
    clock: ManualClock,
    weather: Weather,
    mistake: Mistake,
    /// Which accidents may happen in this run, one bit each: few, so that the gap of one hides no other.
    accidents: u64,
    step: u64,
    publishers: Vec<Publisher>,
    hearing: Hearing,
    subscribed: bool,
    on_its_way: Vec<Message>,
    announced: Vec<Announced>,
    applied: Vec<(Subject, u64)>,
    gaps: Vec<(GapCause, u64)>,
}

impl World {
    fn new(seed: u64, weather: Weather, mistake: Mistake) -> Self {
        let (dice, clock) = (Entropy::seeded(seed), ManualClock::new());
        let settings = HearingSettings::default().heartbeat(HEARTBEAT);
        let hearing = Hearing::new(PublisherId::from_bytes([0; 16]), namespace(), settings);
        let mut world = Self {
            dice,
            clock,
            weather,
            mistake,
            accidents: 0,
            step: 0,
            publishers: Vec::new(),
            hearing,
            subscribed: false,
            on_its_way: Vec::new(),
            announced: Vec::new(),
            applied: Vec::new(),
            gaps: Vec::new(),
        };
        world.accidents = world.dice.draw_u64() & world.dice.draw_u64();
        world.add_publisher();
        world
    }

    fn add_publisher(&mut self) {
        let id = PublisherId::draw(&self.dice);
        let settings = AnnouncerSettings::default().heartbeat(HEARTBEAT).max_subjects(6);
        let entropy = Entropy::seeded(self.dice.draw_u64());
        let announcer = Announcer::new(id, namespace(), settings, entropy, self.clock.now());
        self.publishers.push(Publisher { id, announcer, alive: true, leaves: false, heard: None, off: 0 });
    }

    fn draw(&self, below: u64) -> u64 {
        self.dice.draw_u64() % below
    }

    fn happens(&self, chance: u64) -> bool {
        self.draw(100) < chance
    }

    /// A while with whatever the weather brings, then a while in which nothing more goes wrong.
    fn run(mut self) -> Self {
        self.subscribe();
        for _ in 0..200 {
            self.turn();
        }
        self.weather = CALM;
        // Longer than the longest pause after a failure, and than the silence of who died.
        for _ in 0..120 {
            self.speak();
            self.deliver_all();
            self.pass(HEARTBEAT / 4);
        }
        self
    }

    fn turn(&mut self) {
        self.step += 1;
        if self.happens(40) {
            self.invalidate();
        }
        self.speak();
        if self.happens(50) {
            self.deliver_some();
        }
        if self.happens(self.weather.accidents) {
            self.accident();
        }
        let pause = MS * u32::try_from(1 + self.draw(20)).unwrap();
        self.pass(pause);
    }

    /// The shared tier has taken a removal; the publisher announces it.
    fn invalidate(&mut self) {
        let publisher = self.draw(self.publishers.len() as u64) as usize;
        self.announce(publisher);
    }

    fn announce(&mut self, publisher: usize) {
        let key = self.draw(40);
        let subject = Subject::Key { key: namespace().key(&key), pending: false };
        let publisher = &mut self.publishers[publisher];
        // Who has never been heard of dies unnoticed, and no receiver can help it: it says hello first.
        if publisher.alive && !publisher.leaves && publisher.heard.is_some() {
            publisher.announcer.announce(subject.clone(), false);
            self.announced.push(Announced { subject, step: self.step });
        }
    }

    /// Every publisher sends what is due.
    fn speak(&mut self) {
        for at in 0..self.publishers.len() {
            for _ in 0..20 {
                if !self.publishers[at].alive {
                    break;
                }
                let Next::Send(message) = self.publishers[at].announcer.next(self.clock.now()) else { break };
                self.publish(at, message);
            }
        }
    }

    fn publish(&mut self, at: usize, message: Message) {
        let (now, failed) = (self.clock.now(), self.happens(self.weather.failed));
        let mut sent = Some(numbered(message, self.publishers[at].off));
        if failed {
            let fatal = self.happens(20);
            let kind = if fatal { ErrorKind::Config } else { ErrorKind::Timeout };
            let before = self.publishers[at].announcer.dropped();
            self.publishers[at].announcer.failed(&Error::new(kind, "publish"), now);
            let dropped = self.publishers[at].announcer.dropped() - before;
            if self.mistake == Mistake::ForgetsNumbersOfDroppedMessages {
                self.publishers[at].off += dropped;
            }
            // After a timeout it may have gone out all the same.
            if fatal || self.happens(50) {
                sent = None;
            }
        } else {
            self.publishers[at].announcer.sent(now);
        }
        let Some(message) = sent else { return };
        if !self.subscribed || self.happens(self.weather.lost) {
            return;
        }
        if self.happens(self.weather.repeated) {
            self.on_its_way.push(message.clone());
        }
        self.on_its_way.push(message);
    }

    fn deliver_some(&mut self) {
        for _ in 0..=self.draw(4) {
            if self.on_its_way.is_empty() {
                return;
            }
            let at =
                if self.weather.lost == 0 { 0 } else { self.draw(self.on_its_way.len() as u64) as usize };
            self.deliver(at);
        }
    }

    fn deliver_all(&mut self) {
        while !self.on_its_way.is_empty() {
            self.deliver(0);
        }
    }

    fn deliver(&mut self, at: usize) {
        let message = self.on_its_way.remove(at);
        let from = self.publishers.iter_mut().find(|publisher| publisher.id == message.publisher);
        from.unwrap().heard = Some(self.step);
        self.hear(BusEvent::Message(message));
    }

    fn hear(&mut self, event: BusEvent) {
        let heard = self.hearing.on_event(event, self.clock.now());
        self.apply(heard);
    }

    fn apply(&mut self, heard: Heard) {
        self.step += 1;
        let gap = heard.gap.filter(|cause| !self.mistake.ignores(cause));
        self.gaps.extend(gap.map(|cause| (cause, self.step)));
        if let Deed::Apply(subjects) = heard.deed {
            self.applied.extend(subjects.into_iter().map(|subject| (subject, self.step)));
        }
    }

    fn accident(&mut self) {
        let kind = self.draw(6);
        if self.accidents & 1 << kind == 0 {
            return;
        }
        match kind {
            0 => self.die(),
            1 => self.leave(),
            2 => self.subscribe_again(),
            3 => self.overflow(),
            4 => self.be_deaf_for_a_while(),
            _ => self.add_publisher(),
        }
    }

    fn be_deaf_for_a_while(&mut self) {
        self.subscribed = false;
        self.on_its_way.clear();
        self.hear(BusEvent::Interrupted);
        for _ in 0..self.draw(8) {
            self.invalidate();
            self.speak();
            self.pass(HEARTBEAT / 4);
        }
        self.come_and_go();
        self.subscribe();
    }

    /// A process begins, removes something, and is gone before anybody could hear of it.
    fn come_and_go(&mut self) {
        self.add_publisher();
        self.speak();
        let at = self.publishers.len() - 1;
        self.publishers[at].heard = Some(self.step);
        self.announce(at);
        self.publishers[at].alive = false;
    }

    /// A process ends between the removal and the message. One that is known, and not cut off.
    fn die(&mut self) {
        let (at, step) = (self.draw(self.publishers.len() as u64) as usize, self.step);
        let publisher = &mut self.publishers[at];
        if self.subscribed && publisher.heard.is_some_and(|heard| heard + 10 > step) {
            publisher.alive = false;
            self.add_publisher();
        }
    }

    fn leave(&mut self) {
        let at = self.draw(self.publishers.len() as u64) as usize;
        let publisher = &mut self.publishers[at];
        if publisher.alive && self.mistake == Mistake::SaysGoodbyeFirst {
            let last = publisher.announcer.last().saturating_sub(publisher.off);
            let goodbye =
                Message { publisher: publisher.id, namespace: namespace(), body: Body::Goodbye { last } };
            publisher.alive = false;
            self.on_its_way.push(goodbye);
        } else {
            publisher.announcer.leave();
            publisher.leaves = true;
        }
        self.add_publisher();
    }

    fn overflow(&mut self) {
        self.come_and_go();
        self.on_its_way.clear();
        self.hear(BusEvent::Gap(BusGap::Overflow));
    }

    fn subscribe(&mut self) {
        self.subscribed = true;
        self.hear(BusEvent::Confirmed);
    }

    fn subscribe_again(&mut self) {
        self.on_its_way.clear();
        self.subscribe();
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        let heard = self.hearing.on_time(self.clock.now());
        self.apply(heard);
    }

    /// The first thing that was neither applied nor followed by a gap.
    fn missed(&self) -> Option<&Announced> {
        let last_gap = self.gaps.iter().map(|(_, step)| *step).max().unwrap_or(0);
        self.announced.iter().find(|announced| {
            let applied =
                |(subject, step): &(Subject, u64)| *subject == announced.subject && *step >= announced.step;
            last_gap < announced.step && !self.applied.iter().any(applied)
        })
    }
}

impl Mistake {
    fn ignores(self, cause: &GapCause) -> bool {
        match cause {
            GapCause::Jump { .. } => self == Self::IgnoresJumps,
            GapCause::Behind { .. } => self == Self::IgnoresHeartbeats,
            GapCause::History { .. } => self == Self::IgnoresHistory,
            GapCause::Subscribed => self == Self::IgnoresConfirmed,
            GapCause::Silent { .. } => self == Self::IgnoresSilence,
            GapCause::Bus(_) => self == Self::IgnoresTheBus,
            _ => false,
        }
    }
}

fn namespace() -> Namespace {
    Namespace::new("users").unwrap()
}

fn numbered(mut message: Message, off: u64) -> Message {
    match &mut message.body {
        Body::Invalidations { sequence: number, .. } => *number -= off,
        Body::Heartbeat { last, .. } | Body::Goodbye { last } => *last -= off,
        _ => {}
    }
    message
}

fn key_of(announced: &Announced) -> &Key {
    match &announced.subject {
        Subject::Key { key, .. } => key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn whatever_happens_an_invalidation_is_applied_or_followed_by_a_gap() {
    for seed in 0..SEEDS {
        let world = World::new(seed, STORM, Mistake::None).run();
        if let Some(missed) = world.missed() {
            panic!("seed {seed}: {:?} of step {} was lost unnoticed", key_of(missed), missed.step);
        }
    }
}

#[test]
fn in_calm_weather_there_is_no_gap_but_the_subscription() {
    for seed in 0..100 {
        let world = World::new(seed, CALM, Mistake::None).run();
        assert!(world.missed().is_none(), "seed {seed}");
        let causes: Vec<_> = world.gaps.iter().map(|(cause, _)| *cause).collect();
        // What is announced faster than it is sent is dropped on purpose, which others notice.
        let overflown = world.publishers.iter().any(|publisher| publisher.announcer.dropped() > 0);
        assert!(causes == [GapCause::Subscribed] || overflown, "seed {seed}: {causes:?}");
        assert!(!world.applied.is_empty());
    }
}

#[test]
fn every_mistake_is_found() {
    let mistakes = [
        Mistake::IgnoresJumps,
        Mistake::IgnoresHeartbeats,
        Mistake::IgnoresHistory,
        Mistake::IgnoresConfirmed,
        Mistake::IgnoresSilence,
        Mistake::IgnoresTheBus,
        Mistake::ForgetsNumbersOfDroppedMessages,
        Mistake::SaysGoodbyeFirst,
    ];
    for mistake in mistakes {
        let found = (0..SEEDS).find(|seed| World::new(*seed, STORM, mistake).run().missed().is_some());
        assert!(found.is_some(), "{mistake:?} was not found in {SEEDS} schedules");
    }
}
