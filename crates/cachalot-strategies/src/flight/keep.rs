//! What becomes of a load: stored as far as its right reaches, and landed.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::envelope::Tagged;
use cachalot_core::{
    Entry, EntryOptions, ErrorKind, Event, Fence, Freshness, Key, Meta, Nonce, Put, PutReply, Result, Store,
    Tags, Tier, Token,
};

use super::{Failed, Flight, Loaded, Right};
use crate::cached::Found;
use crate::engine::Engine;
use crate::fleet::Membership;
use crate::shared::Shared;
use crate::tags::{self, Captured, Storable};

impl<K, V, S> Flight<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Stores what was loaded as far as `right` reaches, and lands. `stale` is what was found on the way.
    pub(crate) async fn settle(
        self,
        mut loaded: Loaded<V>,
        shared: Option<(&Shared<K, V>, Key)>,
        right: Right,
        stale: Option<Found<V>>,
    ) {
        let was_overtaken = self.was_overtaken();
        let took = loaded.took;
        let Self { engine, lead, fence, began, options, .. } = self;
        let mut unused = right.token();
        match loaded.result {
            Ok(value) => {
                let options = match loaded.wishes.ttl {
                    Some(ttl) => options.ttl(ttl),
                    None => options,
                };
                let options = match loaded.wishes.version {
                    Some(version) => options.version(version),
                    None => options,
                };
                let tags = loaded.wishes.tags(&options.tags).and_then(|tags| tags.with(&lead.take_tags()));
                let tags = engine.checked(tags);
                let made = engine.make(value, &options, loaded.took, began, tags.as_ref().ok());
                match tags.and_then(|tags| engine.check_versioned("load", options.version).map(|()| tags)) {
                    Err(error) => engine.emit(&Event::Unstorable { error: &error }),
                    Ok(_) if was_overtaken => engine.emit(&Event::Fenced { tier: Tier::Memory }),
                    Ok(tags) => {
                        let under = Under { tags, captured: loaded.captured };
                        unused = engine.keep(fence, lead.key(), &made, &under, shared.as_ref(), right).await;
                    }
                }
                engine.forget_failure(lead.key());
                lead.land(Ok(made.found));
            }
            Err(error) => {
                let error = engine.remember_failure(&lead, error);
                // A lease that is no longer ours was revoked by an invalidation, and so was the value.
                let still_good = match (&stale, unused, &shared) {
                    (Some(_), Some(token), Some((shared, key))) => {
                        unused = None;
                        engine.release(shared, key, token).await
                    }
                    _ => true,
                };
                let stale = stale.filter(|_| still_good && !lead.is_void());
                lead.land(Err(Failed { error, stale }));
            }
        }
        // After landing: nobody waits for a courtesy.
        if let Some((shared, key)) = shared {
            if let Some(token) = unused {
                engine.release(shared, &key, token).await;
            }
            if let Some(Membership(fleet)) = engine.fleet.as_ref().filter(|_| took >= WORTH_A_HINT) {
                fleet.lease_ended(key);
            }
        }
    }
}

/// Whoever waits for a lease asks again soon by itself; after a load that took longer it is told.
const WORTH_A_HINT: Duration = Duration::from_millis(20);

/// The tags that a value is to be stored under, and what was read of them before its load.
struct Under {
    tags: Tags,
    captured: Captured,
}

/// How far down a value is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// In the shared tier, and memory may follow.
    Below,
    /// In memory at most.
    Here,
    Nowhere,
}

impl Kept {
    fn here_if(is_good: bool) -> Self {
        if is_good { Self::Here } else { Self::Nowhere }
    }
}

/// A value just loaded, with its times.
struct Made<V> {
    found: Found<V>,
    /// `None`: its TTL says not to store it.
    meta: Option<Meta>,
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// `began` at this count of invalidations.
    fn make(
        &self,
        value: Option<V>,
        options: &EntryOptions,
        took: Duration,
        began: u64,
        tags: Option<&Tags>,
    ) -> Made<V> {
        let now = self.clock.now();
        let meta = match &value {
            Some(_) => self.own_times(options).stamp(now, took, &self.entropy),
            None => self.own_times(options).stamp_negative(now, took, &self.entropy),
        };
        let shown = meta.unwrap_or(Meta::new(now, Duration::ZERO, Duration::ZERO, took));
        let shown = self.in_memory(shown, now);
        let stamp = tags::stamp(began, tags.unwrap_or(&Tags::NONE), options.version);
        let entry = Arc::new(Entry { value, meta: shown, stamp });
        let found = Found {
            entry,
            tier: Tier::Loader,
            freshness: Freshness::Fresh,
            stale_for: Duration::ZERO,
            at: now,
        };
        Made { found, meta }
    }

    /// Stores what was loaded as far as `right` reaches: the shared tier first, memory only if that did not
    /// refuse. Gives back a token that is still outstanding.
    async fn keep(
        self: &Arc<Self>,
        fence: Fence,
        key: &K,
        made: &Made<V>,
        under: &Under,
        shared: Option<&(&Shared<K, V>, Key)>,
        right: Right,
    ) -> Option<Token> {
        let version = made.found.entry.stamp.version;
        // Also if it is not to be kept: what is older is not to be kept either.
        let is_below = shared.is_some() && !matches!(right, Right::Memory { .. });
        let kept_for = made.meta.map_or(Duration::ZERO, |meta| meta.kept_for());
        let Some(is_news) = self.is_newest(key, version, kept_for, is_below).await else {
            return right.token();
        };
        let Some(meta) = &made.meta else {
            if is_news {
                self.remove_unless(key.clone(), version).await;
            }
            return right.token();
        };
        let (kept, unused) = match (right, shared) {
            (Right::Nothing, _) => (Kept::Nowhere, None),
            (Right::Memory { ghost }, _) => (Kept::Here, ghost),
            (Right::Lease(_), None) => (Kept::Here, None),
            (Right::Lease(token), Some((shared, shared_key))) => {
                match self.storable(shared, &under.captured, &under.tags, meta.kept_for()).await {
                    Storable::Anywhere(tagged) => {
                        self.put_leased(shared, shared_key, token, made, meta, &tagged).await
                    }
                    // Whether it still is good, only the lease can tell.
                    Storable::InMemory => {
                        (Kept::here_if(self.release(shared, shared_key, token).await), None)
                    }
                    Storable::Nowhere => (Kept::Nowhere, Some(token)),
                }
            }
        };
        if is_news && is_below && kept != Kept::Below {
            // What is there instead may be older than what is known now: an insert that came late, and took the lease.
            self.remove_unless(key.clone(), version).await;
        }
        let is_held = kept != Kept::Nowhere && self.fill_memory(fence, key.clone(), &made.found);
        if is_news && !is_below && !is_held {
            self.forget_older(key, version);
        }
        unused
    }

    /// Stores in the shared tier. How far it may be kept, and the token if it is unused.
    async fn put_leased(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        token: Token,
        made: &Made<V>,
        meta: &Meta,
        tags: &[Tagged],
    ) -> (Kept, Option<Token>) {
        let Entry { value, stamp, .. } = &*made.found.entry;
        let reply = match self.put(shared, key, value.as_ref(), meta, tags, stamp.version) {
            Ok(put) => match shared.backend.leases() {
                Some(leases) => {
                    match self.note_in_index(tags.iter().map(|it| &it.tag), key, meta.kept_for()).await {
                        Ok(()) => leases.put_leased(key, token, put).await,
                        Err(error) => Err(error),
                    }
                }
                None => return (Kept::Here, None),
            },
            Err(error) => Err(error),
        };
        match reply {
            Ok(PutReply::Stored) => (Kept::Below, None),
            Ok(PutReply::Lost | PutReply::Absent) => {
                self.emit(&Event::Fenced { tier: Tier::Backend });
                (Kept::Nowhere, None)
            }
            // Refused before anything was sent: the value will never fit there. Whether it is still good to
            // be kept here, only the lease can tell.
            Err(error) if matches!(error.kind(), ErrorKind::Encode | ErrorKind::Config) => {
                self.emit(&Event::Unstorable { error: &error });
                (Kept::here_if(self.release(shared, key, token).await), None)
            }
            Err(error) => {
                self.backend_failed(&error);
                (Kept::Nowhere, Some(token))
            }
        }
    }

    /// What to send for `value`.
    pub(crate) fn put(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        value: Option<&V>,
        meta: &Meta,
        tags: &[Tagged],
        version: u64,
    ) -> Result<Put> {
        let payload = shared.encode(key, value, meta, tags, version)?;
        let (_, ttl) = shared.lives(meta);
        Ok(Put { payload, nonce: Nonce::draw(&self.entropy), ttl })
    }

    /// Gives a lease back so that waiters go on; if that fails, its term ends it. Whether it was still ours.
    pub(crate) async fn release(&self, shared: &Shared<K, V>, key: &Key, token: Token) -> bool {
        let Some(leases) = shared.backend.leases() else { return false };
        leases.release(key, token).await.unwrap_or_else(|error| {
            self.backend_failed(&error);
            false
        })
    }
}
