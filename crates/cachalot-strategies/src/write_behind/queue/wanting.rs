//! Readers that something was sent beneath: the next try of theirs is not to be spoilt again.

use std::hash::Hash;

use super::Queue;

impl<K, V> Queue<K, V>
where
    K: Hash + Eq + Clone,
{
    /// Nothing of `key` is sent for the first time until [`want_no_more`](Queue::want_no_more), so that somebody who
    /// reads it comes to an end. Has an effect only while its lane is [read](Queue::begin_reading), and none in global
    /// order.
    pub(in crate::write_behind) fn want(&mut self, key: &K) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.wanted += 1;
        }
    }

    /// Such a reader is done.
    pub(in crate::write_behind) fn want_no_more(&mut self, key: &K) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.wanted = lane.wanted.saturating_sub(1);
        if lane.wanted == 0
            && std::mem::take(&mut lane.is_held)
            && let Some(head) = lane.writes.front()
        {
            self.ready.insert(head.oldest, key.clone());
        }
    }

    /// Whether `key`, which would be sent now, is put aside for its readers.
    pub(super) fn hold(&mut self, key: &K) -> bool {
        let Some(lane) = self.lanes.get_mut(key) else { return false };
        lane.is_held = lane.wanted > 0;
        lane.is_held
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use cachalot_core::{Entry, Meta, Timestamp};

    use super::super::{Entering, Next, Queue};
    use crate::write_behind::rules::Rules;

    fn put(queue: &mut Queue<u8, i64>, key: u8, sequence: u64, now: Timestamp) {
        let meta = Meta::new(now, Duration::MAX, Duration::MAX, Duration::ZERO);
        let entry = Arc::new(Entry::new(Some(1), meta));
        queue.admit(Entering { key, entry, weight: 1, waiter: None, replays: None }, sequence, now);
    }

    fn sent(next: Next<u8, i64>) -> Vec<u8> {
        let Next::Send(batch) = next else { return Vec::new() };
        batch.items.iter().map(|item| item.key).collect()
    }

    #[test]
    fn a_key_that_is_wanted_is_sent_once_its_readers_are_done() {
        let now = Timestamp::from_millis(1_000);
        let rules =
            Rules { concurrency: 9, merge: Some(Arc::new(|a: &i64, b: &i64| a + b)), ..Rules::default() };
        let mut queue = Queue::new(rules, 1);
        (0..2).for_each(|_| queue.begin_reading(&1));
        (0..2).for_each(|_| queue.want(&1));
        put(&mut queue, 1, 1, now);
        put(&mut queue, 2, 2, now);
        let mut told = queue.flush();
        assert_eq!(sent(queue.next(now)), [2], "the others go");
        assert!(matches!(queue.next(now), Next::Wait(None)), "and nobody is busy waiting");
        put(&mut queue, 1, 3, now);
        queue.want_no_more(&1);
        assert!(matches!(queue.next(now), Next::Wait(_)));
        queue.want_no_more(&1);
        assert!(told.try_recv().is_err());
        assert_eq!(sent(queue.next(now)), [1]);
    }

    #[test]
    fn a_key_that_was_wanted_in_vain_is_sent() {
        let now = Timestamp::from_millis(1_000);
        let mut queue = Queue::new(Rules::default(), 1);
        queue.begin_reading(&1);
        queue.want(&1);
        put(&mut queue, 1, 1, now);
        queue.want_no_more(&1);
        queue.leave_reading(&1);
        queue.hurry();
        assert_eq!(sent(queue.next(now)), [1]);
    }
}
