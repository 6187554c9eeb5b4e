//! The receiving side of a bus: knows what was missed.

use std::collections::BTreeMap;
use std::time::Duration;

use cachalot_core::{
    Body, BusEvent, BusGap, Key, Message, Namespace, PublisherId, Subject, Timestamp, mutant,
};

/// Listens to a bus on behalf of one cache instance, and notices what it has not heard.
///
/// A state machine: fed with [events](Hearing::on_event) and with [time](Hearing::on_time), it answers what is
/// to be done, a [`Heard`]. For each publisher it keeps the number that is to come next and when it was last
/// heard; some 64 bytes each, for a bounded number of publishers.
///
/// **The promise.** Whatever the bus loses, repeats or reorders: for each invalidation that was published the
/// cache either applies its subject or is told of a gap after it, at the latest when the publisher's next
/// heartbeat arrives, or when it has been silent for too long.
///
/// What it cannot notice: a publisher that was never heard of. So a cache sends a heartbeat as soon as it is
/// there ([`Announcer`](crate::Announcer) does), before it invalidates anything. Nor does it guard against
/// somebody hostile on the bus.
#[derive(Debug)]
pub struct Hearing {
    own: PublisherId,
    namespace: Namespace,
    settings: HearingSettings,
    publishers: BTreeMap<PublisherId, Publisher>,
    listening: bool,
    /// One had to be forgotten that may fall silent unnoticed: until then all count as suspects.
    forgotten_until: Option<Timestamp>,
    /// Nobody counts as silent before.
    look_at: Option<Timestamp>,
}

/// Bounds of a [`Hearing`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HearingSettings {
    /// After how many missed heartbeats a publisher counts as silent. Default 4.
    pub missed_heartbeats: u32,
    /// How often a publisher is assumed to be heard of until it has said so itself. Default 2 s.
    pub heartbeat: Duration,
    /// The longest interval between heartbeats that a publisher is believed. Default 1 min.
    pub longest_heartbeat: Duration,
    /// How many publishers are followed. With more, one after the other is forgotten and heard of anew, each
    /// time with a gap. Default 4,096.
    pub max_publishers: usize,
}

impl Default for HearingSettings {
    fn default() -> Self {
        Self {
            missed_heartbeats: 4,
            heartbeat: Duration::from_secs(2),
            longest_heartbeat: Duration::from_secs(60),
            max_publishers: 4096,
        }
    }
}

impl HearingSettings {
    /// Sets [`missed_heartbeats`](HearingSettings::missed_heartbeats); at least 1.
    #[must_use]
    pub fn missed_heartbeats(mut self, missed: u32) -> Self {
        self.missed_heartbeats = missed.max(1);
        self
    }

    /// Sets [`heartbeat`](HearingSettings::heartbeat).
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Sets [`longest_heartbeat`](HearingSettings::longest_heartbeat).
    #[must_use]
    pub fn longest_heartbeat(mut self, every: Duration) -> Self {
        self.longest_heartbeat = every;
        self
    }

    /// Sets [`max_publishers`](HearingSettings::max_publishers); at least 1.
    #[must_use]
    pub fn max_publishers(mut self, most: usize) -> Self {
        self.max_publishers = most.max(1);
        self
    }
}

/// What is to be done about an event, in this order: the gap, then the deed, then the acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "what was heard is to be applied"]
pub struct Heard {
    /// Something was missed: void and detach all flights, void write fences, hold every entry suspect, forget
    /// cached tokens of tags.
    pub gap: Option<GapCause>,
    /// What the event itself asks for.
    pub deed: Deed,
    /// Its message is one that had been missed, or that had come before. Its subjects are to be applied as
    /// ever, but a pending one must not make the shared tier be bypassed any more: the message that ends the
    /// bypass may have come already.
    pub late: bool,
    /// Once all of that is done: tell this publisher that everything up to this number is.
    pub ack: Option<(PublisherId, u64)>,
}

/// What one event asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    #[default]
    Nothing,
    /// Drop what these are about, and void what is on its way.
    Apply(Vec<Subject>),
    /// Wake who waits for the leases of these keys.
    Wake(Vec<Key>),
    /// `by` has applied all of ours up to this number.
    Acked {
        /// Who says so.
        by: PublisherId,
        /// Up to which number.
        up_to: u64,
    },
}

/// Why something must be assumed to be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapCause {
    /// A subscription was confirmed, the first or a renewed one.
    Subscribed,
    /// A publisher's numbers jumped over so many.
    Jump {
        /// Whose.
        publisher: PublisherId,
        /// How many.
        missed: u64,
    },
    /// A heartbeat or a goodbye speaks of so many messages that have not come.
    Behind {
        /// Whose.
        publisher: PublisherId,
        /// How many.
        missed: u64,
    },
    /// A publisher is heard for the first time and has said something before.
    History {
        /// Whose.
        publisher: PublisherId,
        /// Its last number that was missed.
        last: u64,
    },
    /// A publisher has gone without a goodbye, or is cut off: its last words may be lost.
    Silent {
        /// Who.
        publisher: PublisherId,
    },
    /// There are more publishers than can be followed.
    Crowded,
    /// The bus says so.
    Bus(BusGap),
}

#[derive(Debug)]
struct Publisher {
    next: u64,
    last_heard: Timestamp,
    every: Duration,
    /// It said goodbye. Kept for a while, so that what comes late is no first contact.
    gone: bool,
}

impl Hearing {
    /// Nothing heard yet. `own` are the messages to be ignored: those of this very cache instance.
    pub fn new(own: PublisherId, namespace: Namespace, settings: HearingSettings) -> Self {
        let publishers = BTreeMap::new();
        Self { own, namespace, settings, publishers, listening: false, forgotten_until: None, look_at: None }
    }

    /// Whether the subscription stands, as far as is known. While it does not, nothing in memory may be
    /// trusted that other processes can invalidate.
    pub fn is_listening(&self) -> bool {
        self.listening
    }

    /// How many publishers are followed.
    pub fn publishers(&self) -> usize {
        self.publishers.len()
    }

    /// What `event`, taken from the subscription at `now`, asks for. Looks who has been silent, too: one who
    /// falls silent is noticed also while others talk.
    pub fn on_event(&mut self, event: BusEvent, now: Timestamp) -> Heard {
        let heard = self.hear(event, now);
        let gap = heard.gap.or(self.on_time(now).gap);
        Heard { gap, ..heard }
    }

    fn hear(&mut self, event: BusEvent, now: Timestamp) -> Heard {
        match event {
            BusEvent::Confirmed => self.subscribed(now),
            BusEvent::Resumed => {
                self.listening = true;
                self.all_heard(now);
                Heard::default()
            }
            BusEvent::Interrupted => {
                self.listening = false;
                Heard::default()
            }
            BusEvent::Gap(gap) => Heard::gap(GapCause::Bus(gap)),
            BusEvent::Message(message) => self.on_message(message, now),
            BusEvent::Foreign(subjects) => self.on_foreign(subjects),
            // A later release of the contract says something that this one does not know.
            _ => Heard::gap(GapCause::Bus(BusGap::Undecodable)),
        }
    }

    /// Looks who has been silent for too long. To be called at [`next_look`](Hearing::next_look), if nothing
    /// was heard until then; more often does no harm.
    pub fn on_time(&mut self, now: Timestamp) -> Heard {
        if self.look_at.is_none_or(|at| now < at) {
            return Heard::default();
        }
        let mut gap = None;
        let (settings, mut next) = (&self.settings, None);
        self.publishers.retain(|id, publisher| {
            let deadline = publisher.deadline(settings);
            if deadline <= now {
                let is_missed = !publisher.gone && !mutant!(TrustsTheSilent);
                gap = gap.or(is_missed.then_some(GapCause::Silent { publisher: *id }));
                return false;
            }
            next = earlier(next, deadline);
            true
        });
        match self.forgotten_until {
            Some(until) if until <= now => {
                self.forgotten_until = None;
                gap = gap.or(Some(GapCause::Crowded));
            }
            Some(until) => next = earlier(next, until),
            None => {}
        }
        self.look_at = next;
        Heard { gap, ..Heard::default() }
    }

    /// When [`on_time`](Hearing::on_time) may have something to say. Changes as messages come.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.look_at
    }

    fn subscribed(&mut self, now: Timestamp) -> Heard {
        self.listening = true;
        self.all_heard(now);
        Heard::gap(GapCause::Subscribed)
    }

    /// We were deaf: the silence of others counts from now on.
    fn all_heard(&mut self, now: Timestamp) {
        for publisher in self.publishers.values_mut() {
            publisher.last_heard = now;
        }
    }

    fn on_message(&mut self, message: Message, now: Timestamp) -> Heard {
        if message.publisher == self.own || message.namespace != self.namespace {
            return Heard::default();
        }
        let from = message.publisher;
        match message.body {
            Body::Invalidations { sequence, confirm, subjects } => {
                let late = self.publishers.get(&from).is_some_and(|publisher| sequence < publisher.next);
                let gap = self.on_number(from, sequence, now);
                let ack = confirm.then_some((from, sequence));
                Heard { gap, deed: Deed::Apply(subjects), late, ack }
            }
            Body::Heartbeat { last, every, confirm } => {
                let gap = self.on_last(from, last, now);
                self.settle_interval(from, every);
                Heard { gap, ack: confirm.then_some((from, last)), ..Heard::default() }
            }
            Body::Goodbye { last } => {
                let gap = self.on_last(from, last, now);
                if let Some(publisher) = self.publishers.get_mut(&from) {
                    publisher.gone = true;
                }
                Heard { gap, ..Heard::default() }
            }
            Body::Ack { of, up_to } => {
                let gap = self.on_sign_of_life(from, now);
                let is_ours = of == self.own;
                let deed = if is_ours { Deed::Acked { by: from, up_to } } else { Deed::Nothing };
                Heard { gap, ..Heard::deed(deed) }
            }
            Body::LeasesEnded { keys } => {
                let gap = self.on_sign_of_life(from, now);
                Heard { gap, ..Heard::deed(Deed::Wake(keys)) }
            }
            _ => Heard::gap(GapCause::Bus(BusGap::Undecodable)),
        }
    }

    /// Somebody is there, who has said nothing of numbers: from now on it is followed, so that the silence counts of
    /// one whose other messages are all lost.
    fn on_sign_of_life(&mut self, from: PublisherId, now: Timestamp) -> Option<GapCause> {
        let is_known = self.publishers.contains_key(&from);
        if is_known { None } else { self.first_contact(from, 0, 0, now) }
    }

    /// A message with this number is here.
    fn on_number(&mut self, from: PublisherId, sequence: u64, now: Timestamp) -> Option<GapCause> {
        let before = sequence.saturating_sub(1);
        let Some(publisher) = self.publishers.get_mut(&from) else {
            return self.first_contact(from, before, sequence, now);
        };
        publisher.last_heard = now;
        let next = publisher.next;
        publisher.next = next.max(sequence.saturating_add(1));
        // One below `next` comes late or twice: applied, and nothing new is known.
        (sequence > next).then(|| GapCause::Jump { publisher: from, missed: sequence - next })
    }

    /// So much has been sent.
    fn on_last(&mut self, from: PublisherId, last: u64, now: Timestamp) -> Option<GapCause> {
        let Some(publisher) = self.publishers.get_mut(&from) else {
            return self.first_contact(from, last, last, now);
        };
        publisher.last_heard = now;
        let next = publisher.next;
        publisher.next = next.max(last.saturating_add(1));
        (last >= next).then(|| GapCause::Behind { publisher: from, missed: (last - next).saturating_add(1) })
    }

    /// `missed`: the last number that we have not heard; `last`: the last there is.
    fn first_contact(
        &mut self,
        from: PublisherId,
        missed: u64,
        last: u64,
        now: Timestamp,
    ) -> Option<GapCause> {
        let crowded = self.publishers.len() >= self.settings.max_publishers;
        if crowded {
            self.forget_one(now);
        }
        let (next, every) = (last.saturating_add(1), self.settings.heartbeat);
        let publisher = Publisher { next, last_heard: now, every, gone: false };
        self.look_at = earlier(self.look_at, publisher.deadline(&self.settings));
        self.publishers.insert(from, publisher);
        let has_history = missed > 0 && !mutant!(TakesFirstContactForGood);
        let history = has_history.then_some(GapCause::History { publisher: from, last: missed });
        history.or(crowded.then_some(GapCause::Crowded))
    }

    /// Forgets the one that was not heard for longest. It is a first contact when heard again; if it is not,
    /// its silence must count all the same.
    fn forget_one(&mut self, now: Timestamp) {
        let by_age = |(_, publisher): &(&PublisherId, &Publisher)| (!publisher.gone, publisher.last_heard);
        let Some(id) = self.publishers.iter().min_by_key(by_age).map(|(id, _)| *id) else {
            return;
        };
        if let Some(publisher) = self.publishers.remove(&id) {
            let silent_at = publisher.deadline(&self.settings).max(now);
            self.forgotten_until = self.forgotten_until.max(Some(silent_at));
            self.look_at = earlier(self.look_at, silent_at);
        }
    }

    fn settle_interval(&mut self, from: PublisherId, every: Duration) {
        const SHORTEST: Duration = Duration::from_millis(10);
        let longest = self.settings.longest_heartbeat.max(SHORTEST);
        if let Some(publisher) = self.publishers.get_mut(&from) {
            publisher.every = every.clamp(SHORTEST, longest);
            self.look_at = earlier(self.look_at, publisher.deadline(&self.settings));
        }
    }
}

fn earlier(a: Option<Timestamp>, b: Timestamp) -> Option<Timestamp> {
    Some(a.map_or(b, |a| a.min(b)))
}

impl Publisher {
    /// From when on it counts as silent: so many heartbeats missed, and half of one for the way.
    fn deadline(&self, settings: &HearingSettings) -> Timestamp {
        self.last_heard + self.every.saturating_mul(settings.missed_heartbeats) + self.every / 2
    }
}

impl Heard {
    fn gap(cause: GapCause) -> Self {
        Self { gap: Some(cause), ..Self::default() }
    }

    fn deed(deed: Deed) -> Self {
        Self { deed, ..Self::default() }
    }
}

mod foreign;
#[cfg(test)]
mod tests;
