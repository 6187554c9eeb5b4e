//! The publishing side of a bus: numbers, batches, heartbeats.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cachalot_core::{
    Body, Entropy, Error, ErrorKind, Key, Message, Namespace, PublisherId, Retry, Subject, Timestamp,
};

use crate::Backoff;

mod waiting;
use waiting::Waiting;

/// Speaks on a bus on behalf of one cache instance: decides what is to be sent when, and under which number.
///
/// A state machine without I/O: one task asks it for the [`next`](Announcer::next) message, sends that, and
/// reports how it went by [`sent`](Announcer::sent) or [`failed`](Announcer::failed); meanwhile anybody may
/// [`announce`](Announcer::announce). After an announcement the task must be woken: what it was waiting for
/// may be due at once.
///
/// - The first message goes out at once: a heartbeat, by which others learn of this publisher before it
///   invalidates anything. Another follows every [`heartbeat`](AnnouncerSettings::heartbeat).
/// - What is announced while a message is under way, or within [`pause`](AnnouncerSettings::pause) after one,
///   waits and goes into the next one together; each subject once, as it was announced last.
/// - A failed message is sent again after a growing pause, under the same number. One that cannot be sent at
///   all is dropped and its number stays used, so that receivers find it missing.
/// - When too much waits, all that waits is dropped in the same way: the receivers' gap covers it. That costs
///   them a look into the shared tier for what they read, and memory nowhere.
///   (A message "clear everything" would cost them all they hold, and could itself be lost.)
#[derive(Debug)]
pub struct Announcer {
    own: PublisherId,
    namespace: Namespace,
    settings: AnnouncerSettings,
    entropy: Entropy,
    /// The last number that was given to a message that was handed out, or dropped.
    last: u64,
    waiting: Waiting,
    acks: BTreeMap<PublisherId, u64>,
    hints: VecDeque<Key>,
    /// Handed out, and not known to be sent.
    front: Option<Message>,
    backoff: Backoff,
    not_before: Timestamp,
    /// When invalidations and hints may follow the ones before.
    batch_at: Timestamp,
    heartbeat_at: Timestamp,
    /// The next heartbeat is to be acknowledged.
    confirm: bool,
    leaving: Leaving,
    dropped: u64,
    failures: u32,
}

/// Bounds of an [`Announcer`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AnnouncerSettings {
    /// How often a heartbeat is sent. By the next one at the latest others notice that the last message was
    /// lost. Each reaches every process: 1,000 caches at 2 s are 500,000 deliveries a second. Default 2 s.
    pub heartbeat: Duration,
    /// The shortest time between two messages with invalidations; the first after a quiet time goes at once.
    /// Default 2 ms: at most 500 a second, each with up to 512 subjects.
    pub pause: Duration,
    /// How many subjects may wait. Default 16,384.
    pub max_subjects: usize,
    /// How many bytes their names may take. Default 4 MiB.
    pub max_bytes: usize,
}

impl Default for AnnouncerSettings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            pause: Duration::from_millis(2),
            max_subjects: 16_384,
            max_bytes: 4 << 20,
        }
    }
}

impl AnnouncerSettings {
    /// Sets [`heartbeat`](AnnouncerSettings::heartbeat); at least 10 ms.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every.max(Duration::from_millis(10));
        self
    }

    /// Sets [`pause`](AnnouncerSettings::pause).
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets [`max_subjects`](AnnouncerSettings::max_subjects); at least 1.
    #[must_use]
    pub fn max_subjects(mut self, most: usize) -> Self {
        self.max_subjects = most.max(1);
        self
    }

    /// Sets [`max_bytes`](AnnouncerSettings::max_bytes).
    #[must_use]
    pub fn max_bytes(mut self, most: usize) -> Self {
        self.max_bytes = most;
        self
    }
}

/// What the publishing task does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this, then report.
    Send(Message),
    /// Ask again at this time, or as soon as something was announced.
    Wait(Timestamp),
    /// Goodbye was said. Nothing more is to be sent.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    Asked,
    Said,
}

/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Hints that wait; more are dropped, since a waiter has a deadline of its own.
const MAX_HINTS: usize = 4096;
const HINTS_PER_MESSAGE: usize = 512;
/// Publishers that wait to be acknowledged.
const MAX_ACKS: usize = 4096;

impl Announcer {
    /// A publisher that has said nothing yet. `entropy` spreads the pauses after failures.
    pub fn new(
        own: PublisherId,
        namespace: Namespace,
        settings: AnnouncerSettings,
        entropy: Entropy,
        now: Timestamp,
    ) -> Self {
        Self {
            own,
            namespace,
            waiting: Waiting::new(settings.max_subjects, settings.max_bytes),
            settings,
            entropy,
            last: 0,
            acks: BTreeMap::new(),
            hints: VecDeque::new(),
            front: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
            batch_at: now,
            heartbeat_at: now,
            confirm: false,
            leaving: Leaving::No,
            dropped: 0,
            failures: 0,
        }
    }

    /// Tells all others about `subject`, of which the shared tier has taken the invalidation, or, if it is
    /// pending, has not. Only then: a number that is given out earlier could be missed, and its gap be over,
    /// before the shared tier has dropped the old value.
    ///
    /// `confirm`: others are to acknowledge it. Gives the number under which it will be sent: who has
    /// acknowledged that number or a later one has applied it.
    pub fn announce(&mut self, subject: Subject, confirm: bool) -> u64 {
        if self.leaving == Leaving::Said {
            return self.last;
        }
        let Some(batch) = self.waiting.add(subject, confirm) else {
            return self.give_up(confirm);
        };
        // Batches get their numbers when they are handed out, in this order and without holes.
        self.last.saturating_add(batch)
    }

    /// As many times [`announce`](Announcer::announce). Gives the highest number; 0 without
    /// subjects.
    pub fn announce_all(&mut self, subjects: impl IntoIterator<Item = Subject>, confirm: bool) -> u64 {
        let announced = subjects.into_iter().map(|subject| self.announce(subject, confirm));
        announced.max().unwrap_or(0)
    }

    /// Asks all others, by a heartbeat at once, to acknowledge what has been sent: for a caller that waits for
    /// acknowledgements and has not got them all.
    pub fn ask_again(&mut self, now: Timestamp) {
        self.confirm = true;
        self.heartbeat_at = self.heartbeat_at.min(now);
    }

    /// Tells `of` that all it has sent up to this number is applied.
    pub fn acknowledge(&mut self, of: PublisherId, up_to: u64) {
        let known = self.acks.len() < MAX_ACKS || self.acks.contains_key(&of);
        // One that is not told asks again.
        if known {
            let newest = self.acks.entry(of).or_insert(up_to);
            *newest = up_to.max(*newest);
        }
    }

    /// Tells who waits for the lease of `key` that it has ended. May be dropped.
    pub fn lease_ended(&mut self, key: Key) {
        if self.hints.len() < MAX_HINTS && self.hints.back() != Some(&key) {
            self.hints.push_back(key);
        }
    }

    /// Says goodbye once all that waits is sent.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked;
        }
    }

    /// What to do now. Until the message is reported on, the same one again: a task that was cancelled while
    /// it sent is replaced by another.
    pub fn next(&mut self, now: Timestamp) -> Next {
        if now < self.not_before {
            return Next::Wait(self.not_before);
        }
        if self.front.is_none() {
            let Some(body) = self.due(now) else {
                return if self.leaving == Leaving::Said { Next::Done } else { Next::Wait(self.wake_at()) };
            };
            self.front = Some(Message { publisher: self.own, namespace: self.namespace.clone(), body });
        }
        self.front.clone().map_or(Next::Done, Next::Send)
    }

    /// The message has been sent.
    pub fn sent(&mut self, now: Timestamp) {
        self.backoff.reset();
        self.failures = 0;
        self.settle(now);
    }

    /// The message could not be sent, or may not have been.
    pub fn failed(&mut self, error: &Error, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + self.backoff.next(&self.entropy);
        let is_closed = error.kind() == ErrorKind::Closed;
        if is_closed && self.leaving != Leaving::No {
            return self.give_up_all();
        }
        // A bus that has ended for this side may go on for the others, who must not take silence for peace: what
        // waits is kept, and tried as long as this publisher is there.
        let is_hopeless = error.retry() == Retry::Never && !is_closed;
        match self.front.as_ref().map(|message| &message.body) {
            // Not worth a second try: a waiter looks by itself.
            Some(Body::LeasesEnded { .. }) => self.front = None,
            // The next one knows more.
            Some(Body::Heartbeat { confirm, .. }) => {
                self.confirm |= *confirm;
                self.front = None;
            }
            Some(Body::Invalidations { confirm, .. }) if is_hopeless => {
                self.confirm |= *confirm;
                self.front = None;
                self.dropped += 1;
                self.heartbeat_at = now;
            }
            Some(Body::Ack { .. }) if is_hopeless => self.front = None,
            Some(Body::Goodbye { .. }) if is_hopeless => {
                self.front = None;
                self.leaving = Leaving::Said;
            }
            _ => {}
        }
    }

    /// Leaves without a goodbye: the bus has ended, and what waits was not sent.
    fn give_up_all(&mut self) {
        if let Some(Body::Invalidations { .. }) = self.front.take().map(|message| message.body) {
            self.dropped += 1;
        }
        self.dropped += self.waiting.clear().0;
        self.leaving = Leaving::Said;
    }

    /// Whether goodbye was said, or the bus has ended before.
    pub fn has_left(&self) -> bool {
        self.leaving == Leaving::Said
    }

    /// The last number that was given to a message.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The number under which all that was announced will have been sent.
    pub fn promised(&self) -> u64 {
        self.last.saturating_add(self.waiting.batches())
    }

    /// How many subjects wait to be sent, those of a message under way included.
    pub fn waiting(&self) -> usize {
        let under_way = match self.front.as_ref().map(|message| &message.body) {
            Some(Body::Invalidations { subjects, .. }) => subjects.len(),
            _ => 0,
        };
        self.waiting.len() + under_way
    }

    /// How many messages were given up: their numbers are missing for all others.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many attempts to send have failed since the last that succeeded: as long as it grows, others hear
    /// nothing of this publisher.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What is to be sent now.
    fn due(&mut self, now: Timestamp) -> Option<Body> {
        if self.leaving == Leaving::Said {
            return None;
        }
        if self.heartbeat_at <= now {
            let confirm = std::mem::take(&mut self.confirm);
            return Some(Body::Heartbeat { last: self.last, every: self.settings.heartbeat, confirm });
        }
        if let Some((of, up_to)) = self.acks.pop_first() {
            return Some(Body::Ack { of, up_to });
        }
        if self.batch_at > now && self.leaving == Leaving::No {
            return None;
        }
        if let Some((subjects, confirm)) = self.waiting.take() {
            self.last = self.last.saturating_add(1);
            return Some(Body::Invalidations { sequence: self.last, confirm, subjects });
        }
        if !self.hints.is_empty() {
            let keys = self.hints.drain(..self.hints.len().min(HINTS_PER_MESSAGE)).collect();
            return Some(Body::LeasesEnded { keys });
        }
        (self.leaving == Leaving::Asked).then_some(Body::Goodbye { last: self.last })
    }

    fn wake_at(&self) -> Timestamp {
        let idle = self.waiting.is_empty() && self.hints.is_empty();
        if idle { self.heartbeat_at } else { self.heartbeat_at.min(self.batch_at) }
    }

    /// The front is no longer ours to care for.
    fn settle(&mut self, now: Timestamp) {
        match self.front.take().map(|message| message.body) {
            Some(Body::Heartbeat { .. }) => self.heartbeat_at = now + self.settings.heartbeat,
            Some(Body::Invalidations { .. } | Body::LeasesEnded { .. }) => {
                self.batch_at = now + self.settings.pause;
            }
            Some(Body::Goodbye { .. }) => self.leaving = Leaving::Said,
            _ => {}
        }
    }

    /// Too much waits: drops it, and uses up the numbers it was promised and one for what came last.
    fn give_up(&mut self, confirm: bool) -> u64 {
        let (batches, waited_for) = self.waiting.clear();
        let dropped = batches.saturating_add(1);
        self.dropped += dropped;
        self.confirm |= confirm || waited_for;
        self.last = self.last.saturating_add(dropped);
        // Others learn of it at once, not only by the next message.
        self.heartbeat_at = Timestamp::from_millis(0);
        self.last
    }
}

#[cfg(test)]
mod tests;
