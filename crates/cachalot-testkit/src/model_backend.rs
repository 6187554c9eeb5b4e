//! A backend written to be read, not to be fast: what `Backend` and `LeaseBackend` mean.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::{
    Backend, BackendInfo, Clock, Depth, Expired, Held, Holder, Key, KeyPattern, LeaseBackend, LeaseReply,
    MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, SweepCursor, Swept, TagBackend, TagToken,
    Timestamp, Token, VersionBackend,
};

mod members;
use members::Registries;

/// A [`Backend`] with leases, without bound, in one map under one lock. A clone is the same backend, as two
/// processes see the same server.
///
/// It keeps the records of a Redis server: value and right to store under one key with one time to live, so
/// that whatever ends the record revokes the right.
#[derive(Clone, Debug)]
pub struct ModelBackend {
    clock: Clock,
    slots: Arc<Mutex<HashMap<Key, Slot>>>,
    tags: Arc<Mutex<Marks>>,
    registries: Registries,
    floors: Arc<Mutex<Floors>>,
    incarnation: Arc<AtomicU64>,
    turns: Arc<AtomicU64>,
    keys_per_part: usize,
}

/// The tags' tokens, and when they end.
type Marks = HashMap<Key, (TagToken, Timestamp)>;

/// The floors of versions, and when they end.
type Floors = HashMap<Key, (u64, Timestamp)>;

/// What was in a [`ModelBackend`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    slots: HashMap<Key, Slot>,
    tags: Marks,
    floors: Floors,
}

/// What is under one key. A slot that holds neither a value nor a right does not exist.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) value: Option<Value>,
    pub(crate) right: Option<Right>,
    /// The time to live of all of it.
    pub(crate) ends: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) payload: Bytes,
    pub(crate) nonce: Nonce,
    pub(crate) stored_at: Timestamp,
    pub(crate) is_invalidated: bool,
}

/// A right to store, or a poisoned one, which nobody has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    pub(crate) holder: Holder,
    pub(crate) token: Option<Token>,
    pub(crate) deadline: Timestamp,
}

impl ModelBackend {
    /// An empty one over `clock`.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            slots: Arc::default(),
            tags: Arc::default(),
            registries: Registries::default(),
            floors: Arc::default(),
            incarnation: Arc::default(),
            turns: Arc::default(),
            keys_per_part: KEYS_PER_PART,
        }
    }

    /// Has each part of a sweep look at so many keys. Default: few, so that sweeps of tests have several parts.
    #[must_use]
    pub fn sweeping(mut self, keys_per_part: usize) -> Self {
        self.keys_per_part = keys_per_part.max(1);
        self
    }

    /// Loses everything, as a server that restarts empty, or evicts what was there.
    pub fn lose_everything(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.lose_tags();
        self.lose_members();
        self.floors().0.clear();
    }

    /// What is there now, to be [restored](Self::restore).
    pub fn snapshot(&self) -> Snapshot {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Snapshot { slots, tags: self.marks().0.clone(), floors: self.floors().0.clone() }
    }

    /// Is as it was at `snapshot`, as after a fail-over to a replica that lagged, or a restart from what was
    /// saved: what was acknowledged since is forgotten, and so is who was a member.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.incarnation.fetch_add(1, Ordering::SeqCst);
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&snapshot.slots);
        self.marks().0.clone_from(&snapshot.tags);
        self.lose_members();
        self.floors().0.clone_from(&snapshot.floors);
    }

    /// Others answer from now on, who have forgotten nothing: as after an ejection in a tier of many servers.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
    }

    /// Loses what it knows of tags, as a server that evicts it.
    pub fn lose_tags(&self) {
        self.marks().0.clear();
    }

    pub(crate) fn forget_tags(&self, names: &[Key]) {
        let (mut marks, _) = self.marks();
        marks.retain(|name, _| !names.contains(name));
    }

    /// The tokens that have not ended.
    fn marks(&self) -> (MutexGuard<'_, Marks>, Timestamp) {
        let mut marks = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        marks.retain(|_, (_, ends)| !reached(*ends, now));
        (marks, now)
    }

    /// The floors that have not ended.
    fn floors(&self) -> (MutexGuard<'_, Floors>, Timestamp) {
        let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        floors.retain(|_, (_, ends)| !reached(*ends, now));
        (floors, now)
    }

    pub(crate) fn forget_floors(&self) {
        self.floors().0.clear();
    }

    /// Has the floor under `name` be `floor`, until `ends`.
    pub(crate) fn set_floor(&self, name: &Key, floor: u64, ends: impl FnOnce(Timestamp) -> Timestamp) {
        let (mut floors, now) = self.floors();
        floors.insert(name.clone(), (floor, ends(now)));
    }

    /// Some keys, in the order of their bytes, that come after the one given, and where to go on.
    pub(crate) fn part_of_a_sweep(&self, after: &[u8]) -> (Vec<Key>, Option<SweepCursor>) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // No key is meant that has no namespace, so none is lost where an empty one would come first.
        let mut keys: Vec<Key> = slots.keys().filter(|key| key.as_bytes() > after).cloned().collect();
        keys.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        let more = keys.len() > self.keys_per_part;
        keys.truncate(self.keys_per_part);
        let last = keys.last().filter(|_| more);
        let next = last.map(|last| SweepCursor::new(last.as_bytes().to_vec()));
        (keys, next)
    }

    /// Runs one atomic step on the slot of `key`, as a server runs a script.
    pub(crate) fn step<R>(&self, key: &Key, step: impl FnOnce(&mut Option<Slot>, Timestamp) -> R) -> R {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let mut slot = slots.remove(key).filter(|slot| !reached(slot.ends, now));
        let result = step(&mut slot, now);
        let left = slot.filter(|slot| slot.value.is_some() || slot.right.is_some());
        if let Some(slot) = left.filter(|slot| !reached(slot.ends, now)) {
            slots.insert(key.clone(), slot);
        }
        result
    }
}

/// How many keys one part of a sweep looks at.
const KEYS_PER_PART: usize = 8;

impl Slot {
    /// A right without a value, which ends with its deadline.
    fn bare(holder: Holder, token: Option<Token>, deadline: Timestamp) -> Self {
        Self { value: None, right: Some(Right { holder, token, deadline }), ends: deadline }
    }

    fn of(put: Put, now: Timestamp) -> Self {
        Self {
            value: Some(Value {
                payload: put.payload,
                nonce: put.nonce,
                stored_at: now,
                is_invalidated: false,
            }),
            right: None,
            ends: now + put.ttl,
        }
    }

    /// The lease or hold whose deadline has not come.
    pub(crate) fn live(&self, now: Timestamp) -> Option<Right> {
        self.right.filter(|right| !reached(right.deadline, now))
    }

    pub(crate) fn live_hold(&self, now: Timestamp) -> Option<Right> {
        self.live(now).filter(|right| right.holder == Holder::Writer)
    }

    fn is_leased_to(&self, token: Token) -> bool {
        self.right.is_some_and(|right| right.holder == Holder::Reader && right.token == Some(token))
    }
}

impl Value {
    fn record(&self, now: Timestamp) -> Record {
        Record {
            payload: self.payload.clone(),
            nonce: self.nonce,
            age: now.since(self.stored_at),
            invalidated: self.is_invalidated,
        }
    }
}

pub(crate) fn reached(deadline: Timestamp, now: Timestamp) -> bool {
    deadline <= now && deadline != Timestamp::NEVER
}

/// Poisons the hold of `slot` if one is live: it stays until its deadline, nobody's.
fn poison(slot: &mut Option<Slot>, now: Timestamp) -> bool {
    let hold = slot.as_ref().and_then(|slot| slot.live_hold(now));
    if let Some(hold) = hold {
        *slot = Some(Slot::bare(Holder::Writer, None, hold.deadline));
    }
    hold.is_some()
}

#[async_trait]
impl Backend for ModelBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("model", "", true)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.step(key, |slot, now| {
            let value = slot.as_ref()?.value.as_ref()?;
            Some(value.record(now))
        }))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            records.push(self.get(key).await);
        }
        records
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        Ok(self.step(key, |slot, now| {
            if poison(slot, now) {
                Removed::Held
            } else if slot.take().is_some() {
                Removed::Existing
            } else {
                Removed::Nothing
            }
        }))
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            removed.push(self.remove(key).await);
        }
        removed
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let (part, next) = self.part_of_a_sweep(from.as_bytes());
        let mut removed = 0;
        for key in part.iter().filter(|key| pattern.matches(key.as_bytes())) {
            removed += u64::from(self.remove(key).await? != Removed::Nothing);
        }
        Ok(Swept { removed, next })
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        Ok(self.step(key, |slot, now| {
            if poison(slot, now) {
                return Expired::Held;
            }
            let Some(Slot { value: Some(value), right, ends }) = slot else {
                *slot = None;
                return Expired::Nothing;
            };
            value.is_invalidated = true;
            *right = None;
            *ends = (*ends).min(now + keep);
            Expired::Marked
        }))
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        Ok(self.step(key, |slot, now| {
            let Some(Slot { value: Some(value), ends, .. }) = slot else {
                return false;
            };
            let prolongs = !value.is_invalidated && value.nonce == nonce && *ends < now + ttl;
            if prolongs {
                *ends = now + ttl;
            }
            prolongs
        }))
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        Some(self)
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        Some(self)
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::SeqCst)
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl TagBackend for ModelBackend {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        let (marks, _) = self.marks();
        Ok(names.iter().map(|name| marks.get(name).map(|(token, _)| *token)).collect())
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let (mut marks, now) = self.marks();
        let mut pin = |(name, fresh): (&Key, &TagToken)| {
            let (token, ends) = marks.entry(name.clone()).or_insert((*fresh, now + ttl));
            *ends = (*ends).max(now + ttl);
            *token
        };
        Ok(names.iter().zip(fresh).map(&mut pin).collect())
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let (mut marks, now) = self.marks();
        for (name, fresh) in names.iter().zip(fresh) {
            let (token, _) = marks.entry(name.clone()).or_insert((*fresh, now + ttl));
            match depth {
                Depth::Remove => *token = *fresh,
                Depth::Expire => token.expired = fresh.expired,
            }
        }
        Ok(())
    }
}

#[async_trait]
impl VersionBackend for ModelBackend {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let (mut floors, now) = self.floors();
        let before = floors.get(name).map_or(0, |(floor, _)| *floor);
        if version > 0 {
            let (floor, ends) = floors.entry(name.clone()).or_insert((version, now + ttl));
            *floor = (*floor).max(version);
            *ends = (*ends).max(now + ttl);
        }
        Ok(before)
    }
}

#[async_trait]
impl LeaseBackend for ModelBackend {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        Ok(self.step(key, |slot, now| {
            let value = slot.as_ref().and_then(|slot| slot.value.as_ref());
            let record = value.map(|value| value.record(now));
            if let Some(record) = &record
                && !record.invalidated
                && Some(record.nonce) != refuse
            {
                return LeaseReply::Hit(record.clone());
            }
            if let Some(right) = slot.as_ref().and_then(|slot| slot.live(now)) {
                return LeaseReply::Busy {
                    remaining: right.deadline.since(now),
                    holder: right.holder,
                    stale: record,
                };
            }
            let lease = Slot::bare(Holder::Reader, Some(token), now + term);
            match slot {
                Some(slot) if slot.value.is_some() && slot.ends > lease.ends => slot.right = lease.right,
                // The lease must not die with the value.
                _ => *slot = Some(lease),
            }
            LeaseReply::Lease { stale: record }
        }))
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        Ok(self.step(key, |slot, now| match slot {
            None => PutReply::Absent,
            // The deadline does not count: the token alone fences.
            Some(held) if !held.is_leased_to(token) => PutReply::Lost,
            Some(held) if is_nothing(&put) => {
                held.right = None;
                PutReply::Lost
            }
            Some(_) => {
                *slot = Some(Slot::of(put, now));
                PutReply::Stored
            }
        }))
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        Ok(self.step(key, |slot, _| {
            let leased = slot.as_mut().filter(|slot| slot.is_leased_to(token));
            leased.map(|slot| slot.right = None).is_some()
        }))
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        Ok(self.step(key, |slot, now| {
            let other = slot.as_ref().and_then(|slot| slot.live_hold(now));
            let deadline = now + term;
            if let Some(other) = other {
                *slot = Some(Slot::bare(Holder::Writer, None, deadline.max(other.deadline)));
                return Held::Overlap;
            }
            *slot = Some(Slot::bare(Holder::Writer, Some(token), deadline));
            Held::Held
        }))
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        Ok(self.step(key, |slot, now| {
            let hold = slot.as_ref().and_then(|slot| slot.live_hold(now));
            if hold.is_some_and(|hold| hold.token == Some(token)) {
                let stores = !is_nothing(&put);
                *slot = stores.then(|| Slot::of(put, now));
                return if stores { PutReply::Stored } else { PutReply::Lost };
            }
            // The writer has outlived its hold and may just have changed the source under another's.
            if !poison(slot, now) && slot.take().is_none() {
                return PutReply::Absent;
            }
            PutReply::Lost
        }))
    }
}

/// Whether `put` asks to store for no time.
fn is_nothing(put: &Put) -> bool {
    put.ttl < Duration::from_millis(1)
}
