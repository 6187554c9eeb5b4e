//! The queue against a model: whatever is written, fails, is split, is given up or starts anew, the store ends as if
//! each write had been done in its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Entropy, Entry, Meta, Timestamp};
use proptest::prelude::*;

use super::{Batch, Entering, Next, Queue, Refusal};
use crate::write_behind::rules::{Order, Rules};

type Key = u8;

#[derive(Clone, Debug)]
enum Step {
    Put(Key, i64),
    Delete(Key),
    Barrier,
    /// So much time passes.
    Pass(u64),
    /// Whatever is to be sent now is sent.
    Send,
    /// One of the calls under way ends: the source takes the writes, or not, or takes them and says that it has not.
    End(usize, Ends),
    /// A key is refused from now on, or taken again.
    Poison(Key, bool),
    /// The process dies, and starts anew from its journal.
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Taken,
    Refused,
    /// An unknown outcome: done, and reported as failed.
    TakenUnheard,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0u8..6;
    let end = prop_oneof![3 => Just(Ends::Taken), 3 => Just(Ends::Refused), 1 => Just(Ends::TakenUnheard)];
    let step = prop_oneof![
        12 => (key(), -9i64..10).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key().prop_map(Step::Delete),
        1 => Just(Step::Barrier),
        4 => (0u64..40_000).prop_map(Step::Pass),
        8 => Just(Step::Send),
        10 => (0usize..4, end).prop_map(|(which, end)| Step::End(which, end)),
        1 => (key(), any::<bool>()).prop_map(|(key, is_poison)| Step::Poison(key, is_poison)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..160)
}

/// What a source keeps of a key: its value, and the last sequence it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    value: Option<i64>,
    last: u64,
}

struct Model {
    queue: Queue<Key, i64>,
    is_of_deltas: bool,
    order: Order,
    now: Timestamp,
    entropy: Entropy,
    next: u64,
    flying: Vec<Batch<Key, i64>>,
    /// The source.
    rows: BTreeMap<Key, Row>,
    poison: BTreeSet<Key>,
    /// What the journal owes: by sequence.
    journal: BTreeMap<u64, (Key, Option<i64>)>,
    cuts: BTreeSet<u64>,
    /// What it would be if each write had been done at once.
    ideal: BTreeMap<Key, Option<i64>>,
    barriers: Vec<(u64, tokio::sync::oneshot::Receiver<()>)>,
    /// The last write of each key that the source was given since the start.
    seen: BTreeMap<Key, u64>,
    /// In global order: what the source has taken last, of all.
    last_taken: u64,
}

fn rules(is_of_deltas: bool, order: Order) -> Rules<Key, i64> {
    let merge: Option<crate::write_behind::rules::Merge<i64>> =
        if is_of_deltas { Some(Arc::new(|older: &i64, newer: &i64| older + newer)) } else { None };
    Rules { batch: 4, concurrency: 3, order, merge, max_attempts: u32::MAX, ..Rules::default() }
}

impl Model {
    fn new(is_of_deltas: bool, order: Order) -> Self {
        Self {
            queue: Queue::new(rules(is_of_deltas, order), 1),
            is_of_deltas,
            order,
            now: Timestamp::from_millis(1_000_000),
            entropy: Entropy::seeded(1),
            next: 1,
            flying: Vec::new(),
            rows: BTreeMap::new(),
            poison: BTreeSet::new(),
            journal: BTreeMap::new(),
            cuts: BTreeSet::new(),
            ideal: BTreeMap::new(),
            barriers: Vec::new(),
            seen: BTreeMap::new(),
            last_taken: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Put(key, value) => {
                let ideal = self.ideal.entry(key).or_default();
                *ideal = Some(if self.is_of_deltas { ideal.unwrap_or(0) + value } else { value });
                self.write(key, Some(value));
            }
            Step::Delete(key) => {
                self.ideal.insert(key, None);
                self.write(key, None);
            }
            Step::Barrier => {
                let told = self.queue.flush();
                self.barriers.push((self.next, told));
            }
            Step::Pass(millis) => self.now = self.now + Duration::from_millis(millis),
            Step::Send => self.send(),
            Step::End(which, ends) if !self.flying.is_empty() => {
                let batch = self.flying.remove(which % self.flying.len());
                self.end(batch, ends);
            }
            Step::End(..) => {}
            Step::Poison(key, is_poison) => {
                self.poison.remove(&key);
                self.poison.extend(is_poison.then_some(key));
            }
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn write(&mut self, key: Key, value: Option<i64>) {
        let sequence = self.next;
        self.next += 1;
        self.journal.insert(sequence, (key, value));
        self.admit(sequence, key, value);
    }

    fn admit(&mut self, sequence: u64, key: Key, value: Option<i64>) {
        let meta = Meta::new(self.now, Duration::MAX, Duration::MAX, Duration::ZERO);
        let entry = Arc::new(Entry::new(value, meta));
        self.queue.admit(Entering { key, entry, weight: 1, waiter: None, replays: None }, sequence, self.now);
        self.note();
    }

    /// The journal is told what has ended, and only then those who wait for it.
    fn note(&mut self) {
        for (_, told) in &mut self.barriers {
            assert!(told.try_recv().is_err(), "a barrier was told before the journal");
        }
        for sequence in self.queue.take_notes().done {
            assert!(self.journal.remove(&sequence).is_some(), "{sequence} done twice");
        }
        self.queue.tell_flushes();
    }

    fn send(&mut self) {
        while let Next::Send(batch) = self.queue.next(self.now) {
            assert!(!batch.items.is_empty(), "a call about nothing");
            if self.is_of_deltas {
                let last = batch.items.iter().map(|item| item.sequence).max();
                self.cuts.extend(last);
                self.cuts
                    .extend(batch.items.iter().filter(|item| item.has_successor).map(|item| item.sequence));
            }
            let mut keys: Vec<Key> = batch.items.iter().map(|item| item.key).collect();
            if self.order == Order::PerKey {
                keys.extend(self.flying.iter().flat_map(|other| other.items.iter().map(|item| item.key)));
                let count = keys.len();
                assert_eq!(
                    keys.into_iter().collect::<BTreeSet<_>>().len(),
                    count,
                    "a key twice at the source"
                );
            } else {
                assert!(self.flying.is_empty(), "two calls in global order");
            }
            self.flying.push(batch);
        }
    }

    fn end(&mut self, batch: Batch<Key, i64>, ends: Ends) {
        let is_poisoned = batch.items.iter().any(|item| self.poison.contains(&item.key));
        if ends != Ends::Refused && !is_poisoned {
            batch.items.iter().for_each(|item| self.take(item.key, item.entry.value, item.sequence));
        }
        if ends == Ends::Taken && !is_poisoned {
            self.queue.done(batch);
            self.note();
        } else {
            if self.order == Order::Global {
                // It all comes again, in the same order.
                self.seen.retain(|key, _| batch.items.iter().all(|item| item.key != *key));
                self.last_taken = 0;
            }
            let refusal = Refusal { reason: "no".into(), is_permanent: false, was_tried: true };
            let failed = self.queue.failed(batch, &refusal, self.now, &self.entropy);
            assert!(failed.buried.is_empty());
            self.note();
        }
    }

    /// The source does a write, once: after a restart, and after an error, it may come again.
    fn take(&mut self, key: Key, value: Option<i64>, sequence: u64) {
        let seen = self.seen.entry(key).or_default();
        assert!(sequence >= *seen, "an older write of {key} comes late");
        *seen = sequence;
        if self.order == Order::Global {
            assert!(sequence > self.last_taken, "out of the order of all");
            self.last_taken = sequence;
        }
        let row = self.rows.entry(key).or_default();
        if sequence > row.last {
            row.value = match value {
                Some(delta) if self.is_of_deltas => Some(row.value.unwrap_or(0) + delta),
                value => value,
            };
            row.last = sequence;
        }
    }

    fn restart(&mut self) {
        // What was under way may have been done, or not.
        for batch in std::mem::take(&mut self.flying) {
            if self.entropy.draw_unit() < 0.5 {
                batch.items.iter().for_each(|item| self.take(item.key, item.entry.value, item.sequence));
            }
        }
        self.barriers.clear();
        self.seen.clear();
        self.last_taken = 0;
        self.queue = Queue::new(rules(self.is_of_deltas, self.order), self.next);
        let cuts = self.cuts.clone();
        let mut cuts = cuts.into_iter().peekable();
        for (sequence, (key, value)) in self.journal.clone() {
            while cuts.next_if(|cut| *cut < sequence).is_some_and(|cut| {
                self.queue.part(cut + 1);
                true
            }) {}
            self.admit(sequence, key, value);
        }
        cuts.for_each(|cut| self.queue.part(cut + 1));
    }

    fn check(&mut self) {
        let waiting: usize = self.queue.lanes.values().map(|lane| lane.writes.len()).sum();
        assert_eq!((self.queue.entries, self.queue.live.len()), (waiting, waiting));
        assert_eq!(self.queue.bytes > 0, waiting > 0);
        let oldest = self.queue.live.keys().next().copied();
        for (line, told) in &mut self.barriers {
            let is_reached = oldest.is_none_or(|oldest| oldest >= *line);
            match told.try_recv() {
                Ok(()) => assert!(is_reached, "a barrier was told too early"),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => {
                    assert!(!is_reached, "it was not told")
                }
                Err(_) => {}
            }
        }
        // What a reader sees is what was written, unless it has to ask the source.
        for (key, ideal) in &self.ideal {
            if let Some(last) = self.queue.last(key).filter(|_| !self.is_of_deltas) {
                assert_eq!(last.value, *ideal, "what waits for {key}");
            }
        }
    }

    /// The source takes everything from now on.
    fn finish(mut self) {
        self.poison.clear();
        for _ in 0..10_000 {
            self.queue.hurry_retries(self.now);
            self.now = self.now + Duration::from_secs(60);
            self.send();
            let Some(batch) = self.flying.pop() else { break };
            self.end(batch, Ends::Taken);
            self.check();
        }
        assert!(self.queue.is_idle(), "{} writes never left", self.queue.waiting());
        assert!(self.journal.is_empty(), "the journal still owes {:?}", self.journal);
        for (key, ideal) in &self.ideal {
            assert_eq!(self.rows.get(key).and_then(|row| row.value), *ideal, "the row {key}");
        }
        assert!(self.queue.lanes.is_empty() && self.queue.ready.is_empty() && self.queue.retries.is_empty());
        assert_eq!((self.queue.entries, self.queue.bytes, self.queue.calls), (0, 0, 0));
    }
}

fn live(steps: &[Step], is_of_deltas: bool, order: Order) {
    let mut model = Model::new(is_of_deltas, order);
    steps.iter().for_each(|step| model.step(step));
    model.finish();
}

#[test]
fn a_delta_that_the_source_may_have_stays_apart_from_what_comes_after_a_restart() {
    let sent = [Step::Put(3, -8), Step::Pass(26_840), Step::Send, Step::End(0, Ends::TakenUnheard)];
    live(&[&sent[..], &[Step::Restart, Step::Put(3, 7)]].concat(), true, Order::PerKey);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_source_ends_as_if_each_write_had_been_done_in_its_turn(steps in steps()) {
        live(&steps, false, Order::PerKey);
    }

    #[test]
    fn deltas_are_counted_once_each_whatever_happens(steps in steps()) {
        live(&steps, true, Order::PerKey);
    }

    #[test]
    fn in_global_order_the_source_sees_every_write_in_its_turn(steps in steps()) {
        live(&steps, false, Order::Global);
    }

    #[test]
    fn deltas_in_global_order_are_counted_once_each(steps in steps()) {
        live(&steps, true, Order::Global);
    }
}
