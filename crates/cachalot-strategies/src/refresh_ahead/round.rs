//! The task behind a refresh-ahead: whose turn it is, and what is done in it.

use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cachalot_core::{BoxFuture, Event, LeaseReply, LoaderError, Source, Store, Timestamp, Token};
use cachalot_stampede::guard;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Counts, Hot, Inner};
use crate::batch::{Ahead, LoadMany};
use crate::engine::Engine;
use crate::flight::until_free;

/// How many keys are looked at, and how many are loaded, in one go.
const PART: usize = 1_024;

/// Whose round it is.
enum Duty {
    Own,
    /// To be asked for again after this.
    Other(Duration),
}

/// Does rounds for as long as somebody has the handle and the cache is open.
pub(super) async fn run<K, V, S, D>(ahead: Weak<Inner<K, V, S, D>>, gone: Arc<Notify>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    let Some(mut pause) = ahead.upgrade().map(|inner| inner.settings.every) else { return };
    loop {
        if timeout(pause, gone.notified()).await.is_ok() {
            return;
        }
        let Some(inner) = ahead.upgrade() else { return };
        let engine = inner.read.cache().engine.clone();
        if engine.check_open("refresh").is_err() {
            return;
        }
        let began = engine.clock.monotonic();
        let turn = guard(Box::pin(inner.turn(engine.clone())), Duration::MAX).await;
        let until_next = turn.unwrap_or_else(|_| {
            engine.emit(&Event::TaskPanicked);
            inner.settings.every
        });
        let took = engine.clock.monotonic().saturating_sub(began);
        pause = until_next.saturating_sub(took).max(Duration::from_millis(1));
    }
}

impl<K, V, S, D> Inner<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Does a round if it is this process's, and says when to come back, from its beginning on.
    async fn turn(&self, engine: Arc<Engine<K, V, S>>) -> Duration {
        let keys = self.set.of_round(self.hottest(&engine));
        if keys.is_empty() {
            // Whoever has keys does the round.
            self.counts.waiting.store(0, Ordering::Relaxed);
            return self.settings.every;
        }
        match self.duty(&engine).await {
            Duty::Own => {
                if self.was_others.swap(false, Ordering::Relaxed)
                    && let Some(budget) = &self.budget
                {
                    budget.resume(engine.clock.now(), self.settings.every);
                }
                let ends = engine.clock.monotonic().saturating_add(self.settings.every);
                self.round(&engine, keys, ends).await;
                // The right to this round is over by then.
                until_free(self.settings.every)
            }
            Duty::Other(again) => {
                self.was_others.store(true, Ordering::Relaxed);
                again
            }
        }
    }

    /// Asks for the right to a round. It is never given back: no other round begins before the interval is over.
    async fn duty(&self, engine: &Engine<K, V, S>) -> Duty {
        let every = self.settings.every;
        let Some(leases) = engine.shared.as_ref().and_then(|shared| shared.backend.leases()) else {
            return Duty::Own;
        };
        let token = Token::draw(&engine.entropy);
        match leases.get_or_lease(&self.duty, token, every, None).await {
            Ok(LeaseReply::Lease { .. }) => Duty::Own,
            Ok(LeaseReply::Busy { remaining, .. }) => Duty::Other(until_free(remaining).min(every)),
            Ok(LeaseReply::Hit(_)) => Duty::Other(every),
            Err(error) => {
                engine.backend_failed(&error);
                Duty::Other(every)
            }
        }
    }

    /// What is read most often. Halves the counts when it is time.
    fn hottest(&self, engine: &Engine<K, V, S>) -> Vec<K> {
        let Some(hot) = &self.hot else { return Vec::new() };
        let now = engine.clock.monotonic();
        let mut hot = lock(hot);
        // After 64 times nothing is left of any count.
        for _ in 0..64 {
            if now.saturating_sub(hot.halved_at) < self.settings.half_life {
                break;
            }
            hot.halved_at += self.settings.half_life;
            hot.sketch.halve();
        }
        hot.sketch.top(self.settings.top)
    }

    /// Looks at `keys` and loads what is due, the longest due first, until `ends` by the monotonic clock: then another
    /// process has the next round.
    async fn round(&self, engine: &Arc<Engine<K, V, S>>, keys: Vec<K>, ends: Duration) {
        self.counts.rounds.fetch_add(1, Ordering::Relaxed);
        let (mut due, unseen) = self.due(engine, keys, ends.saturating_sub(self.settings.every / 2)).await;
        due.sort_by_key(|(since, _)| *since);
        let mut left: Vec<K> = due.into_iter().rev().map(|(_, key)| key).collect();
        while !left.is_empty() {
            let patience = ends.saturating_sub(engine.clock.monotonic());
            if patience.is_zero() {
                break;
            }
            let wanted = left.len().min(PART);
            let granted = self.granted(engine, wanted);
            let part: Vec<K> = left.drain(left.len() - granted..).rev().collect();
            self.set.trying(&part, engine.clock.now());
            let bounds = (self.settings.ratio, patience);
            engine.refresh_ahead(part, self.read.options(), bounds, self.loader(engine)).await;
            if granted < wanted {
                self.counts.over_budget.fetch_add(left.len() as u64, Ordering::Relaxed);
                break;
            }
        }
        self.counts.waiting.store((left.len() + unseen) as u64, Ordering::Relaxed);
    }

    /// How many of so many loads the budget grants.
    fn granted(&self, engine: &Engine<K, V, S>, wanted: usize) -> usize {
        let Some(budget) = &self.budget else { return wanted };
        let now = engine.clock.now();
        (0..wanted).take_while(|_| budget.try_take(now)).count()
    }

    /// Those of `keys` that are to be loaded, with the moment since when they wait, and of how many it could not tell
    /// before `ends`: the next round begins with them.
    async fn due(
        &self,
        engine: &Engine<K, V, S>,
        mut keys: Vec<K>,
        ends: Duration,
    ) -> (Vec<(Timestamp, K)>, usize) {
        let first = self.first.load(Ordering::Relaxed) % keys.len().max(1);
        keys.rotate_left(first);
        let (mut due, mut seen) = (Vec::new(), 0);
        for part in keys.chunks(PART) {
            if seen > 0 && engine.clock.monotonic() >= ends {
                break;
            }
            let stands = engine.stand(part, self.settings.ratio).await;
            let now = engine.clock.now();
            for (key, stand) in part.iter().zip(stands) {
                let since = match stand {
                    Ahead::Fine => None,
                    Ahead::Due(since) => self.set.turn_of(key, Some(since), now),
                    Ahead::Missing => self.set.turn_of(key, None, now),
                };
                due.extend(since.map(|since| (since, key.clone())));
            }
            seen += part.len();
            // Memory may have answered all: others get their turn.
            tokio::task::yield_now().await;
        }
        let unseen = keys.len() - seen;
        self.first.store(if unseen == 0 { 0 } else { first + seen }, Ordering::Relaxed);
        (due, unseen)
    }

    /// The loader, which notes what the source said.
    fn loader(
        &self,
        engine: &Engine<K, V, S>,
    ) -> impl Fn(LoadMany<K>) -> LoadTogether<K, V> + Send + Sync + use<K, V, S, D> {
        let (read, set, counts, clock) =
            (self.read.clone(), self.set.clone(), self.counts.clone(), engine.clock.clone());
        let until_again = self.read.options().ttl.longest();
        let until_again = match until_again {
            Duration::MAX => until_again,
            ttl => ttl.mul_f64(self.settings.ratio).max(self.settings.every),
        };
        move |load| {
            let (read, set, counts, clock) = (read.clone(), set.clone(), counts.clone(), clock.clone());
            Box::pin(async move {
                let asked = load.keys().len() as u64;
                counts.loads.fetch_add(asked, Ordering::Relaxed);
                let mut unanswered = Unanswered { left: asked, counts: &counts };
                let answers = read.load_together(load).await?;
                unanswered.left = asked.saturating_sub(answers.len() as u64);
                for (key, value) in &answers {
                    if value.is_some() {
                        set.found(key);
                    } else if set.absent(key, clock.now() + until_again) {
                        counts.absent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(answers)
            })
        }
    }
}

type LoadTogether<K, V> = BoxFuture<'static, Result<Vec<(K, Option<V>)>, LoaderError>>;

/// Counts the keys that the source has not answered, however its call ends.
struct Unanswered<'a> {
    left: u64,
    counts: &'a Counts,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.counts.failed.fetch_add(self.left, Ordering::Relaxed);
    }
}

pub(super) fn lock<K>(hot: &Mutex<Hot<K>>) -> MutexGuard<'_, Hot<K>> {
    hot.lock().unwrap_or_else(PoisonError::into_inner)
}
