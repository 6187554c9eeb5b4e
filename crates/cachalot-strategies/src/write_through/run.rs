//! The steps of a write-through.
//!
//! 1. Here: flights of the key are void, memory forgets it, and a fence is begun.
//! 2. The shared tier: a hold, which drops the old value and keeps loaders from getting a lease.
//! 3. The source.
//! 4. The shared tier: the new value, if the hold still stands; nothing, if the source refused.
//! 5. Others are told, and memory stores, if the fence still stands.
//!
//! What the source took is not known when it does not answer: then the hold stays to its end, and the key is removed.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    Commit, Depth, Entry, EntryOptions, Error, ErrorKind, Event, Fence, Held, Key, LeaseBackend, Source,
    Store, Token, mutant,
};
use cachalot_stampede::{Joined, Lead, guard};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::draft::{Below, Draft};
use super::unknown;
use crate::batch::{AT_ONCE, pipelined};
use crate::engine::Engine;
use crate::write::{Inserted, Over, PutOver};
use crate::write_error::WriteError;

/// A write whose key is held.
struct Begun<K, V> {
    draft: Draft<K, V>,
    fence: Fence,
    hold: Hold,
}

/// What keeps loaders from storing meanwhile.
enum Hold {
    /// The fence alone: there is no shared tier.
    Fence,
    /// This one in the shared tier.
    Ours(Token),
    /// Somebody else's too: nobody stores until both have ended.
    Overlapped(Token),
    /// Nothing: the shared tier could not be reached.
    Unreached(Error),
}

type Answer<E> = oneshot::Sender<Result<Vec<Inserted>, WriteError<E>>>;

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Writes to `source`, then to the cache. Goes on after the `answer`, if that is that nobody knows.
    pub(super) async fn write_through<D: Source<K, V>>(
        self: Arc<Self>,
        writes: Vec<(K, Option<V>)>,
        options: EntryOptions,
        source: Arc<D>,
        answer: Answer<D::Error>,
    ) {
        let writes = last_of_each(writes);
        let turns = self.turns(writes.iter().map(|(key, _)| key)).await;
        let drafts = match self.drafts(writes, &options).await {
            Ok(drafts) => drafts,
            Err(error) => return drop(answer.send(Err(error.into()))),
        };
        let held_since = self.clock.monotonic();
        let begun = pipelined(AT_ONCE, drafts.into_iter().map(|draft| self.begin_write(draft))).await;
        let patience =
            (self.times.hold_term / 2).saturating_sub(self.clock.monotonic().saturating_sub(held_since));
        if patience.is_zero() {
            pipelined(AT_ONCE, begun.into_iter().map(|begun| self.undo_write(begun))).await;
            let late = Error::new(ErrorKind::Timeout, "write")
                .detail("it took too long to hold all; nothing is written");
            return drop(answer.send(Err(late.into())));
        }
        let keys = || begun.iter().map(|begun| begun.draft.key.clone()).collect();
        let stored = {
            let mut storing = pin!(guard(Box::pin(store(&*source, &begun)), Duration::MAX));
            match timeout(patience, &mut storing).await {
                Ok(stored) => stored,
                Err(_) => {
                    drop(answer.send(Err(unknown(ErrorKind::Timeout, "write").into())));
                    drop(turns);
                    return self.clone().forget_unknown(keys(), async { drop(storing.await) }).await;
                }
            }
        };
        // Nobody may be there any more to hear of it.
        drop(match stored {
            Ok(Ok(())) => {
                let ended = begun.into_iter().map(|begun| self.end_write(begun));
                answer.send(Ok(pipelined(AT_ONCE, ended).await))
            }
            Ok(Err(error)) => {
                let keys: Vec<K> = keys();
                pipelined(AT_ONCE, begun.into_iter().map(|begun| self.undo_write(begun))).await;
                if keys.len() > 1 {
                    // It may have taken those before the one that it refused.
                    self.clone().remove_many(keys).await;
                }
                answer.send(Err(WriteError::Source(error)))
            }
            Err(_) => {
                let sent = answer.send(Err(unknown(ErrorKind::Panicked, "write").into()));
                drop(turns);
                self.clone().forget_unknown(keys(), sleep(self.times.hold_term)).await;
                sent
            }
        });
    }

    /// Steps 1 and 2.
    async fn begin_write(&self, draft: Draft<K, V>) -> Begun<K, V> {
        self.forget(&draft.key);
        let fence = self.store.begin(&draft.key);
        let hold = match &draft.below {
            Below::None => Hold::Fence,
            Below::Unreached(_, error) => Hold::Unreached(error.clone()),
            Below::Reached { key, .. } => self.hold(key).await,
        };
        Begun { draft, fence, hold }
    }

    async fn hold(&self, key: &Key) -> Hold {
        let token = Token::draw(&self.entropy);
        let Some(leases) = self.leases() else { return Hold::Fence };
        if mutant!(WritesThroughUnheld) {
            return Hold::Ours(token);
        }
        match leases.hold(key, token, self.times.hold_term).await {
            Ok(Held::Held) => Hold::Ours(token),
            Ok(Held::Overlap) => Hold::Overlapped(token),
            Err(error) => Hold::Unreached(error),
        }
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        self.shared.as_ref()?.backend.leases()
    }

    /// Steps 4 and 5, once the source has taken the write.
    async fn end_write(self: &Arc<Self>, begun: Begun<K, V>) -> Inserted {
        let Begun { draft: Draft { key, value, kept, version, below }, fence, hold } = begun;
        let fence = if mutant!(FencesAWriteThroughLate) { self.store.begin(&key) } else { fence };
        let life = kept.as_ref().map_or(Duration::ZERO, |kept| kept.meta.kept_for());
        let entry = kept.map(|kept| Entry { value, meta: kept.meta, stamp: kept.stamp });
        let raised = self.raise(&key, version, life).await;
        let (shared_key, put, tags) = match below {
            Below::None => return self.end_write_here(key, version, fence, entry),
            Below::Unreached(shared_key, _) => (shared_key, None, Vec::new()),
            Below::Reached { key, put, tags } => (key, put, tags),
        };
        let (Some(shared), Some(leases)) = (&self.shared, self.leases()) else { return Inserted::Dropped };
        let stored = match (hold, raised, put) {
            (Hold::Unreached(error), ..) => Err(PutOver::Unreached(error)),
            (Hold::Ours(token), Ok(before), Some(put)) if before <= version => {
                self.put_under(leases, &shared_key, token, put, &tags, version).await
            }
            (Hold::Ours(token) | Hold::Overlapped(token), raised, put) => {
                self.give_hold_back(leases, &shared_key, token).await;
                match (raised, put) {
                    (Err(error), _) => Err(PutOver::Unreached(error)),
                    (Ok(before), _) if before > version => Ok(Over::Outdated),
                    (Ok(_), None) => Ok(Over::Nothing),
                    (Ok(_), Some(_)) => Ok(Over::Lost),
                }
            }
            (Hold::Fence, ..) => Ok(Over::Nothing),
        };
        let ended = self.end_insert(shared, shared_key, key, fence, entry.map(Arc::new), stored).await;
        ended.unwrap_or_else(|error| {
            // Too large for the shared tier, say: the source has it all the same.
            self.emit(&Event::Unstorable { error: &error });
            Inserted::Dropped
        })
    }

    /// Step 5 in memory alone.
    fn end_write_here(&self, key: K, version: u64, fence: Fence, entry: Option<Entry<V>>) -> Inserted {
        self.tell_key(&key, false);
        // Once more: what was made of the old value while the source was written.
        self.forget_dependants(&key, Depth::Remove);
        if self.floor_here(&key) > version {
            self.forget_older(&key, self.floor_here(&key));
            return self.outdated();
        }
        let Some(entry) = entry else {
            self.forget(&key);
            return Inserted::Dropped;
        };
        let kept = self.commit_write(fence, &key, Arc::new(entry));
        if kept == Commit::Revoked {
            // Another write was under way meanwhile, and the source may have taken it first or last. Its right to
            // store ends too.
            self.forget(&key);
        }
        self.inserted(kept)
    }

    /// What was begun is given back: the source has refused, and neither tier has the old value any more.
    async fn undo_write(&self, begun: Begun<K, V>) {
        let Begun { draft: Draft { key, below, .. }, hold, .. } = begun;
        if let (Hold::Ours(token) | Hold::Overlapped(token), Below::Reached { key, .. }, Some(leases)) =
            (hold, below, self.leases())
        {
            self.give_hold_back(leases, &key, token).await;
        }
        self.tell_key(&key, false);
        self.forget(&key);
    }

    /// Removes what the source may have taken or may still take: when no hold is in the way any more, and, if it has
    /// `ended` later than that, then again.
    async fn forget_unknown(self: Arc<Self>, keys: Vec<K>, ended: impl Future<Output = ()>) {
        let mut ended = pin!(ended);
        if mutant!(ForgetsTheUnknown) {
            return ended.await;
        }
        if timeout(self.times.hold_term, &mut ended).await.is_err() {
            self.clone().remove_many(keys.clone()).await;
            // One that hangs for ever is given up.
            let _ = timeout(self.times.max_flight_age, &mut ended).await;
        }
        self.remove_many(keys).await;
    }

    /// Waits until no other write of these keys runs in this process. Ends when they are dropped.
    async fn turns<'a>(&self, keys: impl Iterator<Item = &'a K> + Clone) -> Vec<Lead<K, ()>>
    where
        K: 'a,
    {
        loop {
            let mut turns = Vec::new();
            let mut taken = None;
            for key in keys.clone() {
                match self.inserts.join(key) {
                    Joined::Lead(lead, _) => turns.push(lead),
                    Joined::Follow(follow) => {
                        taken = Some(follow);
                        break;
                    }
                }
            }
            let Some(taken) = taken else { return turns };
            // Given back meanwhile: two that wait for each other's keys would wait for ever.
            drop(turns);
            if taken.wait().await.is_err() {
                return Vec::new();
            }
        }
    }
}

/// Step 3.
async fn store<K, V, D>(source: &D, writes: &[Begun<K, V>]) -> Result<(), D::Error>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    D: Source<K, V>,
{
    if let [Begun { draft, .. }] = writes {
        return match &draft.value {
            Some(value) => source.store(&draft.key, value).await,
            None => source.delete(&draft.key).await,
        };
    }
    let drafts = || writes.iter().map(|write| &write.draft);
    let stores: Vec<_> = drafts().filter_map(|it| it.value.as_ref().map(|value| (&it.key, value))).collect();
    if stores.is_empty() {
        let keys: Vec<_> = drafts().map(|it| &it.key).collect();
        return source.delete_many(&keys).await;
    }
    source.store_many(&stores).await
}

/// One write for each key, in the order of their first mention.
fn last_of_each<K: Hash + Eq + Clone, V>(writes: Vec<(K, Option<V>)>) -> Vec<(K, Option<V>)> {
    let mut places: HashMap<K, usize> = HashMap::with_capacity(writes.len());
    let mut last: Vec<(K, Option<V>)> = Vec::with_capacity(writes.len());
    for (key, value) in writes {
        match places.get(&key) {
            Some(&place) => last[place].1 = value,
            None => {
                places.insert(key.clone(), last.len());
                last.push((key, value));
            }
        }
    }
    last
}
