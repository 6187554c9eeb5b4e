//! What is sent, and what becomes of it when the source has taken it.

use std::hash::Hash;
use std::sync::Arc;

use cachalot_core::{Entry, Timestamp};

use super::{End, Queue};
use crate::write_behind::rules::Order;

/// Writes that the source is given in one call.
pub(in crate::write_behind) struct Batch<K, V> {
    pub(in crate::write_behind) items: Vec<Item<K, V>>,
    /// How often it, or what it is a part of, has failed.
    pub(super) failures: u32,
    /// How many calls the source had taken when that first happened.
    pub(super) first_failed: u64,
    /// Sent although nothing shows that the source works again.
    pub(super) is_probe: bool,
}

/// One write of a batch.
pub(in crate::write_behind) struct Item<K, V> {
    pub(in crate::write_behind) key: K,
    /// Without a value: a deletion.
    pub(in crate::write_behind) entry: Arc<Entry<V>>,
    pub(in crate::write_behind) sequence: u64,
    pub(super) oldest: u64,
    /// Whether more of the key waits behind it.
    pub(in crate::write_behind) has_successor: bool,
}

/// What is to be done now.
pub(in crate::write_behind) enum Next<K, V> {
    Send(Batch<K, V>),
    /// Nothing, until then or until something happens.
    Wait(Option<Timestamp>),
    /// Nothing is left.
    Done,
}

/// Writes that have failed together and are tried together again.
pub(super) struct Retry<K> {
    pub(super) keys: Vec<K>,
    pub(super) due: Timestamp,
    pub(super) failures: u32,
    pub(super) first_failed: u64,
}

/// The source fails, and nothing shows that it works again.
pub(super) struct Outage {
    pub(super) tries: u32,
    /// When the next batch may find out.
    pub(super) due: Timestamp,
    pub(super) is_probed: bool,
}

impl<K, V> Queue<K, V>
where
    K: Hash + Eq + Clone,
{
    /// What is to be done at `now`. Sent is what it gives: the caller reports [`done`](Queue::done) or
    /// [`failed`](Queue::failed).
    pub(in crate::write_behind) fn next(&mut self, now: Timestamp) -> Next<K, V> {
        if self.is_idle() {
            self.is_running = false;
            return Next::Done;
        }
        if !self.may_call() {
            return Next::Wait(None);
        }
        let batch = match self.rules.order {
            Order::PerKey => self.take_retry(now).or_else(|| self.take_fresh(now)),
            Order::Global => self.take_prefix(now),
        };
        match batch {
            Some(batch) => {
                self.calls += 1;
                Next::Send(batch)
            }
            None => Next::Wait(self.next_due(now)),
        }
    }

    /// A call that takes too long gives its place to another; too many of them do not.
    fn may_call(&self) -> bool {
        let calls = if self.rules.order == Order::Global { 1 } else { self.rules.concurrency };
        self.calls - self.late < calls
            && self.calls < calls * if self.rules.order == Order::Global { 1 } else { 2 }
    }

    /// A call takes longer than it should.
    pub(in crate::write_behind) fn is_late(&mut self) {
        self.late += 1;
    }

    /// A call that took too long has ended after all.
    pub(in crate::write_behind) fn is_late_no_more(&mut self) {
        self.late -= 1;
    }

    fn is_due(&self, retry: &Retry<K>, now: Timestamp) -> bool {
        now >= self.due_of(retry).unwrap_or(Timestamp::NEVER)
    }

    /// When a retry may be sent. `None`: not before another one has ended.
    fn due_of(&self, retry: &Retry<K>) -> Option<Timestamp> {
        match &self.outage {
            // Nothing was taken since it failed: one at a time finds out whether the source is back.
            Some(outage) if self.successes == retry.first_failed => {
                (!outage.is_probed).then_some(retry.due.max(outage.due))
            }
            _ => Some(retry.due),
        }
    }

    fn take_retry(&mut self, now: Timestamp) -> Option<Batch<K, V>> {
        let place = self.retries.iter().position(|retry| self.is_due(retry, now))?;
        let Retry { keys, failures, first_failed, .. } = self.retries.remove(place)?;
        let is_probe = self.successes == first_failed;
        if let Some(outage) = self.outage.as_mut().filter(|_| is_probe) {
            outage.is_probed = true;
        }
        self.counts.retries += 1;
        let items = keys.into_iter().filter_map(|key| self.fly(key)).collect();
        Some(Batch { items, failures, first_failed, is_probe })
    }

    fn take_fresh(&mut self, now: Timestamp) -> Option<Batch<K, V>> {
        if !self.has_fresh(now) {
            return None;
        }
        let mut items = Vec::with_capacity(self.ready.len().min(self.rules.batch));
        while items.len() < self.rules.batch
            && let Some((_, key)) = self.ready.pop_first()
        {
            if !self.hold(&key) {
                items.extend(self.fly(key));
            }
        }
        if items.is_empty() {
            return None;
        }
        Some(Batch { items, failures: 0, first_failed: self.successes, is_probe: false })
    }

    /// In global order: the oldest writes, as many as one call is given.
    fn take_prefix(&mut self, now: Timestamp) -> Option<Batch<K, V>> {
        let is_due = self.retries.front().map(|retry| now >= retry.due);
        if !is_due.unwrap_or_else(|| self.has_fresh(now)) {
            return None;
        }
        let (failures, first_failed) = match self.retries.pop_front() {
            Some(retry) => {
                self.counts.retries += 1;
                (retry.failures, retry.first_failed)
            }
            None => (0, self.successes),
        };
        let mut items = Vec::with_capacity(self.ready.len().min(self.limit));
        while items.len() < self.limit
            && let Some((_, key)) = self.ready.pop_first()
        {
            items.extend(self.fly(key));
        }
        Some(Batch { items, failures, first_failed, is_probe: false })
    }

    /// Whether what has not been sent yet is to be sent now.
    fn has_fresh(&mut self, now: Timestamp) -> bool {
        let Some((oldest, _)) = self.ready.first_key_value() else { return false };
        if *oldest < self.urgent || self.ready.len() >= self.rules.batch {
            return true;
        }
        let is_due = self.live.get(oldest).is_some_and(|since| now >= *since + self.rules.flush_every);
        if is_due {
            // And all that has come since.
            self.hurry();
        }
        is_due
    }

    fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let retries = self.retries.iter().filter_map(|retry| self.due_of(retry));
        let is_blocked = self.rules.order == Order::Global && !self.retries.is_empty();
        let fresh = self
            .ready
            .keys()
            .next()
            .filter(|_| !is_blocked)
            .map(|oldest| self.live.get(oldest).map_or(now, |since| *since + self.rules.flush_every));
        retries.chain(fresh).min()
    }

    /// The next write of `key` that is not at the source yet: it is now.
    fn fly(&mut self, key: K) -> Option<Item<K, V>> {
        let lane = self.lanes.get_mut(&key)?;
        let write = lane.writes.get_mut(lane.flying)?;
        write.was_sent = true;
        let (entry, sequence, oldest) = (write.entry.clone(), write.sequence, write.oldest);
        lane.flying += 1;
        lane.takes += 1;
        lane.is_waiting = false;
        Some(Item { has_successor: lane.writes.len() > lane.flying, key, entry, sequence, oldest })
    }

    /// The source has taken `batch`, and no tier holds what was there before.
    pub(in crate::write_behind) fn done(&mut self, batch: Batch<K, V>) {
        self.calls -= 1;
        self.successes += 1;
        self.outage = None;
        self.limit = (self.limit * 2).min(self.rules.batch);
        self.counts.batches += 1;
        self.counts.flushed += batch.items.len() as u64;
        for item in batch.items {
            let left = self.leave(&item);
            self.waste.push(item.entry);
            let Some(write) = left else { continue };
            self.notes.done.extend(write.sequences());
            self.waste.push(write.entry);
            self.entries -= 1;
            self.bytes = self.bytes.saturating_sub(write.weight);
            write.waiters.into_iter().for_each(|waiter| drop(waiter.send(End::Stored)));
        }
    }

    /// Takes a write that was sent out of its lane; what is behind it may be sent.
    pub(super) fn leave(&mut self, item: &Item<K, V>) -> Option<super::Pending<V>> {
        self.live.remove(&item.oldest);
        let lane = self.lanes.get_mut(&item.key)?;
        let place = lane.writes.iter().position(|write| write.oldest == item.oldest)?;
        let write = lane.writes.remove(place);
        lane.flying -= 1;
        match lane.writes.front() {
            None if lane.is_unused() => drop(self.lanes.remove(&item.key)),
            Some(head) if self.rules.order == Order::PerKey && lane.flying == 0 => {
                drop(self.ready.insert(head.oldest, item.key.clone()));
            }
            _ => {}
        }
        write
    }
}
