//! Waiting until all that was queued before is done, and reading beside what is under way.

use std::hash::Hash;

use tokio::sync::oneshot;

use super::Queue;
use super::lane::Readings;

impl<K, V> Queue<K, V>
where
    K: Hash + Eq + Clone,
{
    /// Draws a line: nothing coalesces across it, and what is before it is sent at once. Told when that is done.
    pub(in crate::write_behind) fn flush(&mut self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let line = self.next_sequence;
        let oldest = self.oldest();
        self.barriers.retain(|line| oldest < *line);
        self.part(line);
        self.hurry();
        // Those who gave up leave nothing behind, however long an outage lasts.
        self.flushes.retain(|(_, tell)| !tell.is_closed());
        self.flushes.push((line, tell));
        self.tell_flushes();
        told
    }

    /// What is below `line` never becomes one with what is not.
    pub(in crate::write_behind) fn part(&mut self, line: u64) {
        // A line that nothing has come behind yet parts no more than this one does.
        let newest = self.staged.back().map_or(self.newest, |last| self.newest.max(*last));
        let _ = self.barriers.pop_if(|last| newest < *last);
        self.barriers.push(line);
    }

    /// The first write that the source does not have, even if the journal does not have it yet either.
    fn oldest(&self) -> u64 {
        let first = self.live.keys().next().into_iter().chain(self.staged.front());
        first.min().copied().unwrap_or(u64::MAX)
    }

    /// Tells those whose line has been reached. The journal has been told why: who hears it may close it.
    pub(in crate::write_behind) fn tell_flushes(&mut self) {
        let oldest = self.oldest();
        let is_reached = |(line, _): &mut (u64, oneshot::Sender<()>)| oldest >= *line;
        // Nobody may be left to hear it.
        self.flushes.extract_if(.., is_reached).for_each(|(_, tell)| {
            let _ = tell.send(());
        });
    }

    /// Somebody reads `key` at the source, until [`leave_reading`](Queue::leave_reading).
    pub(in crate::write_behind) fn begin_reading(&mut self, key: &K) {
        self.lanes.entry(key.clone()).or_default().readers += 1;
    }

    /// What such a reader merges with the source's value.
    pub(in crate::write_behind) fn readings(&self, key: &K) -> Readings<V> {
        match self.lanes.get(key) {
            None => Readings { entries: Vec::new(), is_flying: false, takes: 0 },
            Some(lane) => Readings {
                entries: lane.writes.iter().map(|write| write.entry.clone()).collect(),
                is_flying: lane.flying > 0,
                takes: lane.takes,
            },
        }
    }

    /// A reader has what it wanted.
    pub(in crate::write_behind) fn leave_reading(&mut self, key: &K) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.readers -= 1;
        if lane.is_unused() {
            self.lanes.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use cachalot_core::{Entry, Meta, Timestamp};

    use super::super::{Entering, Queue};
    use crate::write_behind::rules::Rules;

    #[test]
    fn flushes_that_are_given_up_in_a_long_outage_leave_nothing_behind() {
        let now = Timestamp::from_millis(1_000);
        let entry: Arc<Entry<u8>> =
            Arc::new(Entry::new(Some(1), Meta::new(now, Duration::MAX, Duration::MAX, Duration::ZERO)));
        let mut queue = Queue::new(Rules::default(), 1);
        queue.admit(Entering { key: 1, entry, weight: 1, waiter: None, replays: None }, 1, now);
        for sequence in 2..1_000 {
            // A full journal: it allots a sequence, and refuses the write.
            queue.stage(sequence, 1);
            queue.unstage(1);
            drop(queue.flush());
        }
        assert!(queue.flushes.len() <= 2 && queue.barriers.len() <= 2, "{:?}", queue.barriers);
    }
}
