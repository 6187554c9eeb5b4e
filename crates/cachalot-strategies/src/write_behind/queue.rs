//! The writes that wait for their source, as a state machine: no task, no clock and no lock of its own.
//!
//! Each key has a lane. The last write of a lane is open, and a newer one of the key coalesces into it, unless it is
//! at the source or a barrier lies between. The first write of a lane is its head: what is sent.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Entry, Timestamp, mutant};
use tokio::sync::oneshot;

use super::rules::{Order, Rules};

mod barriers;
mod dead;
pub(super) use dead::Dead;
mod failing;
pub(super) use failing::{Failed, Refusal};
mod lane;
use lane::{Absorbed, Lane};
pub(super) use lane::{Pending, Readings};
mod notes;
pub(super) use notes::{Buried, Notes, Waste};
mod sending;
pub(super) use sending::{Batch, Item, Next};
use sending::{Outage, Retry};
#[cfg(test)]
mod model;
mod wanting;

/// A write that is to be queued.
pub(super) struct Entering<K, V> {
    pub(super) key: K,
    /// Without a value: a deletion.
    pub(super) entry: Arc<Entry<V>>,
    pub(super) weight: u64,
    /// Told what became of it.
    pub(super) waiter: Option<oneshot::Sender<End>>,
    /// The dead letter that it is.
    pub(super) replays: Option<u64>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The source has it.
    Stored,
    /// It is a dead letter now, for this reason.
    Dead(String),
}

pub(super) struct Queue<K, V> {
    rules: Arc<Rules<K, V>>,
    lanes: HashMap<K, Lane<V>>,
    /// Every write that waits, by the oldest that it holds, and since when.
    live: BTreeMap<u64, Timestamp>,
    /// The heads that may be sent; in global order, all writes that may.
    ready: BTreeMap<u64, K>,
    retries: VecDeque<Retry<K>>,
    /// Since a call of the source failed, as long as none succeeds.
    outage: Option<Outage>,
    dead: BTreeMap<u64, Dead<K, V>>,
    dead_of: HashMap<K, Vec<u64>>,
    notes: Notes,
    waste: Waste<V>,
    /// The sequence that the next write gets at least.
    next_sequence: u64,
    /// The last write that was queued.
    newest: u64,
    /// Writes do not coalesce across these sequences.
    barriers: Vec<u64>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    /// Heads below are sent at once.
    urgent: u64,
    /// Calls of the source under way, and those of them that have taken too long.
    calls: usize,
    late: usize,
    /// How many writes one call is given in global order, less while it fails.
    limit: usize,
    /// Calls that the source has taken.
    successes: u64,
    entries: usize,
    bytes: u64,
    /// Admitted by nobody yet, since the journal does not have them; in its order.
    staged: VecDeque<u64>,
    /// Whether somebody sends.
    pub(super) is_running: bool,
    /// Whether new writes are refused.
    pub(super) is_closed: bool,
    pub(super) counts: Counts,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) batches: u64,
    pub(super) flushed: u64,
    pub(super) coalesced: u64,
    pub(super) retries: u64,
}

impl<K, V> Queue<K, V>
where
    K: Hash + Eq + Clone,
{
    pub(super) fn new(rules: impl Into<Arc<Rules<K, V>>>, next_sequence: u64) -> Self {
        let rules = rules.into();
        Self {
            limit: rules.batch,
            rules,
            lanes: HashMap::new(),
            live: BTreeMap::new(),
            ready: BTreeMap::new(),
            retries: VecDeque::new(),
            outage: None,
            dead: BTreeMap::new(),
            dead_of: HashMap::new(),
            notes: Notes::default(),
            waste: Waste::new(),
            next_sequence,
            newest: 0,
            barriers: Vec::new(),
            flushes: Vec::new(),
            urgent: 0,
            calls: 0,
            late: 0,
            successes: 0,
            entries: 0,
            bytes: 0,
            staged: VecDeque::new(),
            is_running: false,
            is_closed: false,
            counts: Counts::default(),
        }
    }

    /// Whether a write of `key` that weighs `weight` fits. One that coalesces takes no place of its own.
    pub(super) fn has_room(&self, key: &K, weight: u64) -> bool {
        let open =
            self.lanes.get(key).and_then(|lane| lane.writes.back().filter(|_| lane.is_open(&self.rules)));
        let replaced = open.filter(|_| self.rules.merge.is_none()).map_or(0, |open| open.weight);
        let fits =
            self.rules.max_bytes.is_none_or(|most| (self.bytes + weight).saturating_sub(replaced) <= most);
        fits && (open.is_some() || self.entries < self.rules.max_entries)
    }

    /// Counts a write in that the journal does not have yet.
    pub(super) fn stage(&mut self, sequence: u64, weight: u64) {
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.staged.push_back(sequence);
        self.entries += 1;
        self.bytes += weight;
    }

    /// Counts the first of them out again: the journal could not take it, or it is admitted now.
    pub(super) fn unstage(&mut self, weight: u64) {
        self.staged.pop_front();
        self.entries -= 1;
        self.bytes -= weight;
    }

    /// Queues a write, in the order of sequences. Whether who sends should look.
    pub(super) fn admit(&mut self, entering: Entering<K, V>, sequence: u64, now: Timestamp) -> bool {
        let Entering { key, entry, weight, waiter, .. } = entering;
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.newest = self.newest.max(sequence);
        self.supersede_dead(&key);
        let mut write = Pending::new(entry, sequence, weight);
        write.waiters.extend(waiter);
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.is_open(&self.rules)
            && let Some(last) = lane.writes.back_mut()
            && !is_parted(&self.barriers, last.sequence, sequence)
        {
            let before = last.weight;
            match last.absorb(write, &self.rules, &key, &mut self.waste) {
                Absorbed::Yes { superseded } => {
                    self.bytes = (self.bytes + last.weight).saturating_sub(before);
                    self.notes.done.extend(superseded);
                    self.counts.coalesced += 1;
                    return false;
                }
                Absorbed::No(refused) => write = refused,
            }
        }
        self.entries += 1;
        self.bytes += weight;
        lane.writes.push_back(write);
        let is_head = lane.writes.len() == 1;
        let overtakes = mutant!(OvertakesTheWriteInFlight) && lane.flying > 0;
        let is_ready = (is_head && !lane.is_waiting) || self.rules.order == Order::Global || overtakes;
        self.live.insert(sequence, now);
        if is_ready {
            self.ready.insert(sequence, key);
        }
        is_ready && (self.ready.len() == 1 || self.ready.len() >= self.rules.batch || sequence < self.urgent)
    }

    /// The last write of `key` that waits. Without a value: it is to be deleted.
    pub(super) fn last(&self, key: &K) -> Option<&Arc<Entry<V>>> {
        self.lanes.get(key)?.writes.back().map(|write| &write.entry)
    }

    /// Everything that waits is sent at once.
    pub(super) fn hurry(&mut self) {
        self.urgent = self.next_sequence;
    }

    /// Retries do not wait either, once.
    pub(super) fn hurry_retries(&mut self, now: Timestamp) {
        self.hurry();
        self.retries.iter_mut().for_each(|retry| retry.due = now);
        if let Some(outage) = &mut self.outage {
            outage.due = now;
        }
    }

    /// Whether nothing waits for the source; dead letters do not.
    pub(super) fn is_idle(&self) -> bool {
        self.live.is_empty() && self.staged.is_empty()
    }

    /// How many writes wait for the source.
    pub(super) fn waiting(&self) -> usize {
        self.live.len()
    }

    /// The keys of the writes that wait, oldest first, each once.
    pub(super) fn waiting_keys(&self) -> Vec<K> {
        let oldest = |(key, lane): (&K, &Lane<V>)| Some((lane.writes.front()?.oldest, key.clone()));
        let mut keys: Vec<_> = self.lanes.iter().filter_map(oldest).collect();
        keys.sort_unstable_by_key(|(oldest, _)| *oldest);
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// How many entries and bytes count against the bounds.
    pub(super) fn load(&self) -> (usize, u64) {
        (self.entries, self.bytes)
    }

    /// How long the oldest write has waited.
    pub(super) fn oldest_age(&self, now: Timestamp) -> Duration {
        self.live.values().next().map_or(Duration::ZERO, |since| now.since(*since))
    }
}

/// Whether a barrier lies between two sequences.
fn is_parted(barriers: &[u64], earlier: u64, later: u64) -> bool {
    let between = barriers.iter().any(|barrier| earlier < *barrier && *barrier <= later);
    between && !mutant!(CoalescesAcrossABarrier)
}
