//! What the source has not taken: tried again, in ever smaller parts, until what it refuses stands alone.

use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{Entropy, Timestamp, mutant};

use super::lane::Absorbed;
use super::sending::{Batch, Item, Outage, Retry};
use super::{Queue, is_parted};
use crate::write_behind::rules::Order;

/// How the source failed.
#[derive(Clone, Debug)]
pub(in crate::write_behind) struct Refusal {
    /// For people.
    pub(in crate::write_behind) reason: String,
    /// Trying again does not help.
    pub(in crate::write_behind) is_permanent: bool,
    /// It is about the writes; otherwise they were not even tried.
    pub(in crate::write_behind) was_tried: bool,
}

/// What a failed call has changed.
pub(in crate::write_behind) struct Failed<K> {
    /// The keys of what is a dead letter now.
    pub(in crate::write_behind) buried: Vec<K>,
}

impl<K, V> Queue<K, V>
where
    K: Hash + Eq + Clone,
{
    /// The source has not taken `batch`: nothing of it is lost.
    pub(in crate::write_behind) fn failed(
        &mut self,
        batch: Batch<K, V>,
        refusal: &Refusal,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Failed<K> {
        self.calls -= 1;
        let Batch { items, failures, first_failed, is_probe } = batch;
        self.waste.extend(items.iter().map(|item| item.entry.clone()));
        if mutant!(DropsTheWritesOfAFailedFlush) {
            items.iter().for_each(|item| drop(self.leave(item)));
            return Failed { buried: Vec::new() };
        }
        let failures = failures + u32::from(refusal.was_tried);
        self.note_outage(is_probe, now, entropy);
        let mut items = items;
        items.retain(|item| self.land(item, refusal.was_tried));
        let mut buried = Vec::new();
        if let [only] = &items[..]
            && self.is_hopeless(only, refusal)
        {
            buried.extend(self.bury(only, &refusal.reason));
        } else {
            self.try_again(items, refusal, (failures, first_failed), now, entropy);
        }
        Failed { buried }
    }

    fn note_outage(&mut self, is_probe: bool, now: Timestamp, entropy: &Entropy) {
        let (tries, is_probed) =
            self.outage.as_ref().map_or((0, false), |outage| (outage.tries, outage.is_probed));
        let due = now + self.pause(tries, entropy);
        self.outage = Some(Outage { tries: tries + 1, due, is_probed: is_probed && !is_probe });
    }

    /// A write is back from the source; one that came behind it takes its place. Whether it is still there.
    fn land(&mut self, item: &Item<K, V>, was_tried: bool) -> bool {
        let successes = self.successes;
        let is_global = self.rules.order == Order::Global;
        let Some(lane) = self.lanes.get_mut(&item.key) else { return false };
        lane.flying = lane.flying.saturating_sub(1);
        let Some(write) = lane.writes.iter_mut().find(|write| write.oldest == item.oldest) else {
            return false;
        };
        if was_tried {
            write.attempts += 1;
            write.first_failed.get_or_insert(successes);
        }
        if is_global {
            self.ready.insert(item.oldest, item.key.clone());
            return true;
        }
        lane.is_waiting = true;
        self.replace_by_next(&item.key);
        true
    }

    /// The head of a lane that has failed becomes one with what came behind it meanwhile, unless values are deltas or
    /// a barrier lies between.
    fn replace_by_next(&mut self, key: &K) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let [head, next, ..] = lane.writes.make_contiguous() else { return };
        if self.rules.merge.is_some() || is_parted(&self.barriers, head.sequence, next.sequence) {
            return;
        }
        let Some(next) = lane.writes.remove(1) else { return };
        let (oldest, both) = (next.oldest, lane.writes.front().map_or(0, |head| head.weight) + next.weight);
        let Some(head) = lane.writes.front_mut() else { return };
        if let Absorbed::Yes { superseded } = head.absorb(next, &self.rules, key, &mut self.waste) {
            self.notes.done.extend(superseded);
            self.bytes = (self.bytes + head.weight).saturating_sub(both);
            self.entries -= 1;
            self.live.remove(&oldest);
            self.counts.coalesced += 1;
        }
    }

    /// Whether a write that stands alone is given up: never because of an outage.
    fn is_hopeless(&self, item: &Item<K, V>, refusal: &Refusal) -> bool {
        let lane = self.lanes.get(&item.key);
        let write = lane.and_then(|lane| lane.writes.iter().find(|write| write.oldest == item.oldest));
        let Some(write) = write else { return false };
        let is_alive = write.first_failed.is_some_and(|then| self.successes > then);
        // One that was replaced meanwhile has not been tried yet.
        refusal.was_tried
            && write.attempts > 0
            && (refusal.is_permanent || (write.attempts >= self.rules.max_attempts && is_alive))
    }

    fn try_again(
        &mut self,
        items: Vec<Item<K, V>>,
        refusal: &Refusal,
        (failures, first_failed): (u32, u64),
        now: Timestamp,
        entropy: &Entropy,
    ) {
        let is_split = refusal.was_tried && items.len() > 1 && (failures >= 2 || refusal.is_permanent);
        let is_alive = self.successes > first_failed;
        let pause = match is_split && (is_alive || refusal.is_permanent) {
            true => Duration::ZERO,
            false => self.pause(failures.saturating_sub(1), entropy),
        };
        let retry = |keys| Retry { keys, due: now + pause, failures, first_failed };
        let mut keys: Vec<K> = items.into_iter().map(|item| item.key).collect();
        if self.rules.order == Order::Global {
            self.limit = if is_split { keys.len().div_ceil(2) } else { keys.len().max(1) };
            self.retries.push_back(retry(Vec::new()));
            return;
        }
        if is_split {
            let second = keys.split_off(keys.len().div_ceil(2));
            self.retries.push_back(retry(keys));
            self.retries.push_back(retry(second));
        } else if !keys.is_empty() {
            self.retries.push_back(retry(keys));
        }
    }

    /// The pause after so many failures before: full jitter.
    fn pause(&self, before: u32, entropy: &Entropy) -> Duration {
        let (first, longest) = self.rules.pauses;
        let bound = first.saturating_mul(1u32 << before.min(20)).min(longest);
        // Not below a tenth: a run of small draws is no busy loop.
        bound.mul_f64(entropy.draw_unit().max(0.1))
    }
}
