//! When a value that is still fresh is refreshed, so that nobody ever waits for its reload.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Entropy, EntryOptions, Event, Freshness, Meta, Store, Timestamp};
use cachalot_stampede::{Follow, Joined, Lead, RefreshBudget, XFetch, clamp_delta, should_refresh};
use tokio::time::timeout;

use crate::cached::Found;
use crate::engine::Engine;
use crate::flight::{Flight, LoadFuture, Loader, Outcome, Purpose, Wanted};
use crate::load::Load;
use crate::read::Waited;

/// Whether the caller whose read starts an early refresh waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefreshMode {
    /// It does not: it gets the value that is there, and the refresh runs behind.
    #[default]
    Background,
    /// It does, at most for its [`soft_timeout`](crate::CacheBuilder::soft_timeout), and gets the new value; the
    /// one that is there if that takes longer, the refresh fails, or somebody else is at it. Nobody else waits.
    Inline,
}

/// When early refreshes begin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Early {
    #[default]
    Never,
    XFetch(XFetch),
    /// From this share of the TTL on.
    Ratio(f64),
}

/// Beyond so many times beta · delta before the expiry XFetch is not asked: its chance is below 3e-9.
const REACH: f64 = 20.0;

impl Early {
    /// `meta`, marked with the moment from which on a refresh is considered.
    pub(crate) fn mark(self, meta: Meta) -> Meta {
        let fresh_for = meta.fresh_for();
        match self {
            _ if fresh_for == Duration::MAX => meta,
            Self::Never => meta,
            Self::Ratio(ratio) => meta.with_early_from(meta.created_at() + fresh_for.mul_f64(ratio)),
            Self::XFetch(xfetch) => {
                let delta = clamp_delta(meta.compute_time(), fresh_for);
                let meta = Meta::new(meta.created_at(), fresh_for, meta.kept_for(), delta);
                meta.with_early_from(meta.soft_expiry().back(reach(xfetch, delta)))
            }
        }
    }

    /// Whether this read of an entry, marked and fresh at `now`, is to refresh it.
    pub(crate) fn is_due(self, meta: &Meta, now: Timestamp, entropy: &Entropy) -> bool {
        // The expiry in this tier may be nearer than the one that counts: a tier keeps a copy only so long.
        if !meta.is_early(now) || meta.early_from() >= meta.soft_expiry() {
            return false;
        }
        match self {
            Self::Never => false,
            Self::Ratio(_) => true,
            Self::XFetch(xfetch) => {
                let delta = meta.compute_time();
                let expiry = meta.early_from() + reach(xfetch, delta);
                should_refresh(expiry.since(now), delta, xfetch.beta(), entropy.draw_unit())
            }
        }
    }

    /// When an entry that was marked turns stale, also where a tier keeps its copy shorter. `None`: not marked.
    pub(crate) fn expiry(self, meta: &Meta) -> Option<Timestamp> {
        let from = meta.early_from();
        match self {
            _ if from >= meta.soft_expiry() => None,
            Self::Never => None,
            Self::Ratio(ratio) => Some(meta.created_at() + from.since(meta.created_at()).div_f64(ratio)),
            Self::XFetch(xfetch) => Some(from + reach(xfetch, meta.compute_time())),
        }
    }
}

fn reach(xfetch: XFetch, delta: Duration) -> Duration {
    Duration::try_from_secs_f64(REACH * xfetch.beta() * delta.as_secs_f64()).unwrap_or(Duration::MAX)
}

/// What a cache does about values that are about to expire.
#[derive(Debug, Default)]
pub(crate) struct Refresh {
    pub(crate) early: Early,
    pub(crate) mode: RefreshMode,
    pub(crate) budget: Option<RefreshBudget>,
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Whether this read of a fresh value is to refresh it. A failure that is still remembered says no: the
    /// next try is after it.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_due(&self, key: &K, meta: &Meta, at: Timestamp) -> bool {
        self.refresh.early.is_due(meta, at, &self.entropy) && self.remembered(key).is_none()
    }

    /// What a refresh gave, if that is what the caller wants who waited for it, for its soft timeout at most.
    pub(crate) async fn refreshed(
        &self,
        mut follow: Follow<Outcome<V>>,
        options: &EntryOptions,
        wanted: Wanted,
    ) -> Option<Found<V>> {
        let wait = timeout(options.soft_timeout, self.wait(&mut follow, |offer| offer.is_err()));
        let Ok(Ok(Waited::Landed(_, landed))) = wait.await else {
            return None;
        };
        landed.ok().filter(|found| found.freshness == Freshness::Fresh && wanted.accepts(found))
    }

    /// Refreshes what a read has found fresh and due, or joins whoever does. `None`: the budget is spent, or the
    /// cache is shut down.
    pub(crate) fn begin_refresh(
        self: &Arc<Self>,
        key: &K,
        options: &EntryOptions,
        wanted: Wanted,
        load: impl FnOnce(Load<K>) -> LoadFuture<V>,
    ) -> Option<Follow<Outcome<V>>> {
        let task = self.admit("refresh").ok()?;
        let Turn { lead, follow, purpose } = self.lead_refresh(key, wanted)?;
        self.take_off(task, lead, options, wanted, purpose, load);
        follow
    }

    /// The lead of a refresh of `key`, unless somebody loads it already or the budget is spent. Only who leads
    /// spends of it.
    pub(crate) fn lead_refresh(&self, key: &K, wanted: Wanted) -> Option<Turn<K, V>> {
        let Joined::Lead(lead, follow) = self.join(key) else { return None };
        if self.may_refresh() {
            return Some(Turn { lead, follow: Some(follow), purpose: Purpose::Refresh });
        }
        drop(follow);
        let lead = lead.give_up().err()?;
        // Who has joined in between finds what is there now. What this caller has found may be gone.
        match self.fresh_in_memory(key).filter(|found| wanted.accepts(found)) {
            Some(found) => {
                lead.land(Ok(found));
                None
            }
            None => Some(Turn { lead, follow: None, purpose: Purpose::Answer }),
        }
    }

    /// Refreshes what a flight has found fresh and due in the shared tier, with the loader that it did not
    /// need. Its caller does not wait.
    pub(crate) fn refresh_found(
        self: &Arc<Self>,
        key: &K,
        options: EntryOptions,
        wanted: Wanted,
        loader: Loader<V>,
    ) {
        let Ok(task) = self.admit("refresh") else { return };
        if let Some(Turn { lead, purpose, .. }) = self.lead_refresh(key, wanted) {
            let flight = Flight::new(self.clone(), lead, options, wanted, purpose);
            self.detach(task, flight.run(loader));
        }
    }

    /// Whether the budget has a refresh left; takes it.
    fn may_refresh(&self) -> bool {
        let granted = self.refresh.budget.as_ref().is_none_or(|budget| budget.try_take(self.clock.now()));
        self.emit(if granted { &Event::EarlyRefresh } else { &Event::RefreshRefused });
        granted
    }
}

/// The duty to refresh a key.
pub(crate) struct Turn<K, V> {
    pub(crate) lead: Lead<K, Outcome<V>>,
    /// `None`: the budget is spent, and others wait for it.
    follow: Option<Follow<Outcome<V>>>,
    pub(crate) purpose: Purpose,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    /// Loaded in 100 ms, fresh for a minute.
    fn meta() -> Meta {
        Meta::new(at(0), Duration::from_secs(60), Duration::from_secs(90), Duration::from_millis(100))
    }

    /// The share of reads at `millis` that refresh.
    fn share(early: Early, meta: &Meta, millis: u64) -> f64 {
        let entropy = Entropy::seeded(5);
        (0..20_000).filter(|_| early.is_due(meta, at(millis), &entropy)).count() as f64 / 20_000.0
    }

    #[test]
    fn xfetch_refreshes_with_its_probability_also_where_a_tier_keeps_the_copy_shorter() {
        let early = Early::XFetch(XFetch::default());
        let marked = early.mark(meta());
        for meta in [marked, marked.capped(at(59_990)), marked.capped(at(60_000))] {
            assert_eq!(share(early, &meta, 57_999), 0.0, "beyond its reach");
            for (millis, expected) in [(59_900, 0.3679), (59_800, 0.1353), (59_500, 0.0067)] {
                let share = share(early, &meta, millis);
                let sigma = (expected * (1.0 - expected) / 20_000.0_f64).sqrt();
                assert!((share - expected).abs() < 4.0 * sigma, "{millis}: {share}");
            }
        }
        assert_eq!(share(early, &marked.capped(at(20_000)), 19_999), 0.0, "only the copy ends here");
    }

    #[test]
    fn one_slow_load_does_not_make_every_read_a_refresh() {
        let early = Early::XFetch(XFetch::default());
        let slow =
            Meta::new(at(0), Duration::from_secs(60), Duration::from_secs(60), Duration::from_secs(600));
        let share = share(early, &early.mark(slow), 0);
        assert!((share - 0.1353).abs() < 0.01, "half the TTL counts, not ten times: {share}");
    }

    #[test]
    fn a_ratio_refreshes_from_its_share_of_the_ttl_on() {
        let early = Early::Ratio(0.9);
        let meta = early.mark(meta());
        assert_eq!((share(early, &meta, 53_999), share(early, &meta, 54_000)), (0.0, 1.0));
    }

    #[test]
    fn what_never_expires_is_never_refreshed() {
        for early in [Early::Never, Early::Ratio(0.5), Early::XFetch(XFetch::default())] {
            let meta = early.mark(Meta::new(at(0), Duration::MAX, Duration::MAX, Duration::from_secs(9)));
            assert_eq!(share(early, &meta, 1 << 40), 0.0);
        }
        let unmarked = Early::Never.mark(meta());
        assert_eq!(share(Early::Never, &unmarked, 59_999), 0.0);
    }
}
