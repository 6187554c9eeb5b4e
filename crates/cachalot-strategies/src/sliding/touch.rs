//! A touch: the shared tier first, by the nonce of what was read there, then memory, under a fence from before.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    Entry, Fence, Freshness, Hit, Key, Meta, Nonce, Record, Result, Store, Timestamp, mutant,
};

use super::Touches;
use super::queue::{AT_ONCE, Due};
use crate::batch::pipeline::pipelined;
use crate::cached::Found;
use crate::engine::Engine;
use crate::flight::{Considered, Wanted};
use crate::shared::{Fresh, Shared};
use crate::slide::{self, Span, TOUCHES_PER_TTL};
use crate::tags::Vetted;

/// How long a key is left alone that could not be touched.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Touches what is due until nothing is.
pub(super) async fn work_off<K, V, S>(engine: Arc<Engine<K, V, S>>, mut running: Running<K>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    let touches = running.touches.clone();
    let mut done = Vec::new();
    while let Some(due) = touches.queue.next(&done) {
        engine.touch_many(&due, &touches).await;
        done = due;
    }
    running.is_over = true;
}

/// Leaves the queue to another task if this one panics or is dropped, be it before it has begun.
pub(super) struct Running<K: Hash + Eq + Clone> {
    touches: Arc<Touches<K>>,
    is_over: bool,
}

impl<K: Hash + Eq + Clone> Running<K> {
    pub(super) fn new(touches: Arc<Touches<K>>) -> Self {
        Self { touches, is_over: false }
    }
}

impl<K: Hash + Eq + Clone> Drop for Running<K> {
    fn drop(&mut self) {
        if !self.is_over {
            self.touches.queue.give_up();
        }
    }
}

/// What is to be read in the shared tier.
struct Asked<'a, K> {
    due: &'a Due<K>,
    /// From before it is read.
    fence: Fence,
    name: Key,
}

/// What is to be prolonged, as it was read in the shared tier.
struct Touch<'a, K, V> {
    due: &'a Due<K>,
    /// From before it was read.
    fence: Fence,
    name: Key,
    nonce: Nonce,
    fresh: Fresh<V>,
    /// What the record is to live from now on, up to its maximum age.
    ttl: Duration,
    /// The same in memory, which ends it by itself.
    span: Span,
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Prolongs what the shared tier has of these keys and nobody has invalidated: one round trip to read them, one to
    /// touch them.
    async fn touch_many(&self, due: &[Due<K>], touches: &Touches<K>) {
        let Some(shared) = &self.shared else { return };
        let (began, asked_at) = (self.seen.count(), self.clock.now());
        // Every fence before the one read.
        let mut asked = Vec::with_capacity(due.len());
        for due in due {
            let (fence, name) = (self.store.begin(&due.key), shared.key(&due.key));
            if !self.is_pending(&name) {
                asked.push(Asked { due, fence, name });
            }
        }
        let names: Vec<Key> = asked.iter().map(|asked| asked.name.clone()).collect();
        if names.is_empty() {
            return;
        }
        let records = shared.backend.get_many(&names).await;
        let records = self.vet_many(shared, &names, records).await;
        let now = self.clock.now();
        let mut ready = Vec::new();
        for (asked, read) in asked.into_iter().zip(records) {
            touches.hold_off(&asked.due.key, asked_at, now + RETRY_AFTER);
            ready.extend(self.touchable(shared, asked, read, (began, asked_at), now, touches));
        }
        // Collected: the compiler cannot see that a future is `Send` across an await of this closure.
        let work: Vec<_> = ready.iter().map(|touch| self.touch_one(shared, touch)).collect();
        let replies = pipelined(AT_ONCE, work).await;
        for (touch, reply) in ready.into_iter().zip(replies) {
            match reply {
                Ok(true) => {
                    touches.count(true);
                    self.prolong_copy(shared, touch, now);
                }
                // Replaced or removed, or it has as much already: what memory has of it ends when it would have.
                Ok(false) => {}
                Err(error) => {
                    touches.hold_off(&touch.due.key, asked_at, now + RETRY_AFTER);
                    self.backend_failed(&error);
                }
            }
        }
    }

    /// What was read, if it is good, slides, and is to be touched by now.
    fn touchable<'a>(
        &self,
        shared: &Shared<K, V>,
        Asked { due, fence, name }: Asked<'a, K>,
        read: Result<Option<Vetted>>,
        (began, asked_at): (u64, Timestamp),
        now: Timestamp,
        touches: &Touches<K>,
    ) -> Option<Touch<'a, K, V>> {
        let vetted = read.map_err(|error| self.backend_failed(&error)).ok()??;
        let Considered::Usable(fresh) = self.consider(shared, &name, &vetted, began, Wanted::Value) else {
            return None;
        };
        let span = fresh.span?;
        let (created_at, life) = (fresh.meta.created_at(), due.life.unwrap_or(span.idle));
        let (is_due, next) = next_touch(span.meta(created_at, Duration::ZERO), life, now);
        touches.hold_off(&due.key, asked_at, next);
        if !is_due {
            return None;
        }
        let ttl = life.min((created_at + span.max_age).since(now));
        let span = Span { idle: life, ..span };
        Some(Touch { due, fence, name, nonce: vetted.record.nonce, fresh, ttl, span })
    }

    async fn touch_one(&self, shared: &Shared<K, V>, touch: &Touch<'_, K, V>) -> Result<bool> {
        let mut nonce = touch.nonce;
        if mutant!(TouchesASuccessor)
            && let Ok(Some(Record { nonce: now_there, .. })) = shared.backend.get(&touch.name).await
        {
            nonce = now_there;
        }
        shared.backend.touch(&touch.name, nonce, touch.ttl).await
    }

    /// Puts what was touched in the place of memory's copy, which would end earlier. `read_at`: its time there counts
    /// from then.
    fn prolong_copy(&self, shared: &Shared<K, V>, touch: Touch<'_, K, V>, read_at: Timestamp) {
        let Touch { due, fence, fresh, span, .. } = touch;
        let meta = span.meta(fresh.meta.created_at(), fresh.meta.compute_time());
        let found = fresh.timed(shared.copied(meta, read_at, true));
        let fence = if mutant!(ProlongsUnfenced) { self.store.begin(&due.key) } else { fence };
        self.fill_memory(fence, due.key.clone(), &found);
    }

    /// Prolongs `read`, which memory alone had of `key`, by `life`, or its own TTL, if it still has it. Whether it did.
    pub(super) fn prolong_in_memory(&self, key: &K, read: &Arc<Entry<V>>, life: Option<Duration>) -> bool
    where
        V: Clone,
    {
        let fence = self.store.begin(key);
        let is_still_it = |hit: &Hit<V>| hit.freshness == Freshness::Fresh && Arc::ptr_eq(&hit.entry, read);
        let Some(hit) = self.look(key).filter(is_still_it) else {
            return false;
        };
        let Entry { value, meta, stamp } = &*hit.entry;
        let idle = life.unwrap_or_else(|| slide::idle_of(meta));
        let span = Span { idle, max_age: self.longest(Duration::ZERO) };
        let meta = span.meta(meta.created_at(), meta.compute_time());
        // It keeps its stamp: what has ended its tags since it was loaded ends it still.
        let entry =
            Entry { value: value.clone(), meta: slide::in_memory(meta, hit.at, true), stamp: stamp.clone() };
        if entry.meta.soft_expiry() <= hit.entry.meta.soft_expiry() {
            return false;
        }
        let found = Found { entry: Arc::new(entry), ..Found::in_memory(hit) };
        let fence = if mutant!(ProlongsUnfenced) { self.store.begin(key) } else { fence };
        self.fill_memory(fence, key.clone(), &found)
    }
}

/// Whether what is stamped so is to be touched now, and when it may be again. Not now, if it was stored so short a while
/// ago that what a touch would add to its `life` is less than a tenth of that.
fn next_touch(stamped: Meta, life: Duration, now: Timestamp) -> (bool, Timestamp) {
    let worth_while = (stamped.soft_expiry() + life / TOUCHES_PER_TTL).back(life);
    // What lives until its maximum age needs no more of them.
    let is_last = now + life >= stamped.hard_expiry();
    let next = match now < worth_while {
        true => worth_while,
        false if is_last => stamped.hard_expiry(),
        false => now + life / TOUCHES_PER_TTL,
    };
    (now >= worth_while, next)
}
