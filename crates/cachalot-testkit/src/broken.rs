//! Backends that break one sentence of the contract each: they prove the suite.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::{
    Backend, BackendInfo, Expired, Held, Holder, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Record,
    Removed, Result, Timestamp, Token,
};

use crate::ModelBackend;
use crate::model_backend::{Slot, reached};

#[cfg(test)]
mod tests;

macro_rules! defects {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// What is wrong with a [`BrokenBackend`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Defect {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Defect {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

defects! {
    /// Says it has no leases, and has some.
    DeniesItsLeases,
    /// Says that every record is brand-new.
    NeverGrowsOlder,
    /// Shows every record under one and the same nonce.
    ShowsNoNonce,
    /// Shows a lease alone as an empty value.
    ShowsALeaseAsAValue,
    /// Marks every hit as invalidated.
    MarksEveryHit,
    /// Hands out an empty stale value where none was.
    InventsAStaleValue,
    /// Takes an empty payload for none.
    TakesEmptyForAbsent,
    /// Keeps at most 64 KiB of a payload.
    CutsPayloads,
    /// Ends keys at their first zero byte.
    CutsKeys,
    /// Answers a read of many keys in another order.
    ReordersAMultiGet,
    /// Answers a key that was asked for twice only once.
    AnswersARepeatedKeyOnce,
    /// Answers once where no key was asked for.
    AnswersNoKeys,
    /// Gives wrong answers after a caller has left in the middle of a read.
    NeverRecoversFromADrop,
    /// Says it removed something where nothing was.
    AlwaysRemovesSomething,
    /// Answers a key that was removed twice only once.
    RemovesARepeatedKeyOnce,
    /// Removes the value and lets the lease stand.
    RemovesWithoutRevoking,
    /// Removes nothing where no value is stored, leases included.
    RemovesOnlyWhatIsStored,
    /// Removes a writer's hold instead of poisoning it.
    RemovesAHold,
    /// Lets a writer's hold stand as it is.
    RemovesBesideAHold,
    /// Removes only the first of many keys.
    StopsAMultiRemoveAtTheFirst,
    /// Expires without marking the value, so that it still is a hit.
    ExpiresWithoutAMark,
    /// Expires and lets the lease stand.
    ExpiresWithoutRevoking,
    /// Gives an expired value `keep` to live, also if it had less.
    ExpiresForLonger,
    /// Keeps an expired value until its own end.
    ForgetsKeep,
    /// Prolongs whatever is under the key.
    TouchesAnything,
    /// Shortens a life too.
    TouchesForLess,
    /// Counts the age from the touch on.
    TouchesToRejuvenate,
    /// Answers a hit to a caller that has refused that value.
    IgnoresRefusal,
    /// Gives the lease to everybody who asks.
    GrantsTwoLeases,
    /// Gives leases while a writer holds.
    GrantsLeasesUnderAHold,
    /// Hands out no stale value to who is busy.
    BusyWithoutStale,
    /// Hands out no stale value with the lease.
    LeasesWithoutStale,
    /// Lets the lease end when the value beside it does.
    LetsTheLeaseDieWithTheValue,
    /// Drops the old value when its reload begins.
    DropsTheValueOnALease,
    /// Gives leases no deadline.
    LeasesWithoutEnd,
    /// Stores by any token while a lease is outstanding.
    IgnoresTheToken,
    /// Stores by a token that was good once, while another's lease is outstanding.
    AcceptsAnEarlierToken,
    /// Stores over any value that nobody reloads.
    StoresOverAnyValue,
    /// Says of an absent record that another has the right.
    CallsAbsentLost,
    /// Stores where no record is.
    StoresOnAbsent,
    /// Stores for ever.
    LosesTheTtl,
    /// Counts a time to live in 31 bits; what is longer ends at once.
    OverflowsAfterTwentyFourDays,
    /// Leaves a replaced value's time to live as it was.
    KeepsTheOldTtl,
    /// Leaves a replaced value's mark as it was.
    KeepsTheOldMark,
    /// Stores by a token that was good once, over a value that nobody reloads.
    AcceptsASpentToken,
    /// Refuses a put after the lease's deadline.
    RefusesALatePut,
    /// Stores for a second what was to be stored for no time.
    StoresForNoTime,
    /// Keeps the right of a put that stores nothing.
    KeepsTheRightOfAnEmptyPut,
    /// Says it released a lease and does not.
    ReleasesInWordsOnly,
    /// Says it released a lease where none was.
    AlwaysReleasesSomething,
    /// Releases a lease by any token.
    ReleasesByAnyToken,
    /// Drops the old value when its reload is given up.
    DropsTheValueOnRelease,
    /// Releases a writer's hold too.
    ReleasesAHold,
    /// Lets the old value be read while a writer holds.
    HoldsBesideTheValue,
    /// Gives holds no deadline.
    HoldsWithoutEnd,
    /// Leaves the first of two holds good.
    OverlapsWithoutPoison,
    /// Gives the hold to the second of two writers.
    PassesTheHoldOn,
    /// Ends a poisoned hold at the second writer's deadline.
    PoisonsUntilTheSecondDeadline,
    /// Stores by any token while a writer holds.
    IgnoresTheWritersToken,
    /// Stores by a hold whose deadline has passed.
    StoresAfterTheHold,
    /// Leaves the record as it is when a writer comes too late.
    SparesTheRecordOfALateWriter,
}

/// A [`ModelBackend`] with one [`Defect`].
#[derive(Debug)]
pub struct BrokenBackend {
    model: ModelBackend,
    defect: Defect,
    /// Every right that was ever granted.
    granted: Mutex<Vec<(Key, Token)>>,
    /// Whether a read has begun and not ended.
    is_reading: AtomicBool,
}

impl BrokenBackend {
    /// Breaks `model`.
    pub fn new(model: ModelBackend, defect: Defect) -> Self {
        Self { model, defect, granted: Mutex::default(), is_reading: AtomicBool::new(false) }
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    /// The key it really uses.
    fn key(&self, key: &Key) -> Key {
        let end = key.as_bytes().iter().position(|byte| *byte == 0);
        match end {
            Some(end) if self.is(Defect::CutsKeys) => Key::new(key.as_bytes()[..end].to_vec()),
            _ => key.clone(),
        }
    }

    /// A record as it shows it.
    fn shown(&self, mut record: Record) -> Record {
        match self.defect {
            Defect::NeverGrowsOlder => record.age = Duration::ZERO,
            Defect::CutsPayloads => record.payload.truncate(64 * 1024),
            _ => {}
        }
        record
    }

    fn remember(&self, key: &Key, token: Token) {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.push((key.clone(), token));
    }

    fn was_granted(&self, key: &Key, token: Token) -> bool {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.contains(&(key.clone(), token))
    }

    fn slot(&self, key: &Key) -> Option<Slot> {
        self.model.step(key, |slot, _| slot.clone())
    }

    /// Changes what is there, if anything is.
    fn change(&self, key: &Key, change: impl FnOnce(&mut Slot)) {
        self.model.step(key, |slot, _| slot.as_mut().map(change));
    }

    /// Who may store under `key`, if `holder` has a right.
    fn token_of(&self, key: &Key, holder: Holder) -> Option<Token> {
        let right = self.slot(key)?.right?;
        right.token.filter(|_| right.holder == holder)
    }

    /// What is put, as it takes it.
    fn taken(&self, mut put: Put) -> Put {
        match self.defect {
            Defect::LosesTheTtl if put.ttl >= Duration::from_millis(1) => put.ttl = Duration::MAX,
            Defect::OverflowsAfterTwentyFourDays if put.ttl.as_millis() >= 1 << 31 => {
                put.ttl = Duration::from_millis(1);
            }
            Defect::StoresForNoTime => put.ttl = put.ttl.max(Duration::from_secs(1)),
            _ => {}
        }
        put
    }

    /// Stores without asking anybody.
    async fn force(&self, key: &Key, put: Put) -> Result<PutReply> {
        let token = Token::from_bytes(*put.nonce.as_bytes());
        self.model.step(key, |slot, _| *slot = None);
        self.model.get_or_lease(key, token, Duration::MAX, None).await?;
        self.model.put_leased(key, token, put).await
    }
}

#[async_trait]
impl Backend for BrokenBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("broken", "", !self.is(Defect::DeniesItsLeases))
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        let key = &self.key(key);
        if self.is(Defect::NeverRecoversFromADrop) {
            if self.is_reading.swap(true, Ordering::SeqCst) {
                return Ok(None);
            }
            tokio::task::yield_now().await;
            self.is_reading.store(false, Ordering::SeqCst);
        }
        let Some(mut record) = self.model.get(key).await?.map(|record| self.shown(record)) else {
            let shows = self.is(Defect::ShowsALeaseAsAValue) && self.slot(key).is_some();
            return Ok(shows.then(nothing_much));
        };
        match self.defect {
            Defect::TakesEmptyForAbsent if record.payload.is_empty() => return Ok(None),
            Defect::ShowsNoNonce => record.nonce = Nonce::from_bytes([0; 16]),
            _ => {}
        }
        Ok(Some(record))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let mut records = Vec::new();
        for (n, key) in keys.iter().enumerate() {
            if !(self.is(Defect::AnswersARepeatedKeyOnce) && keys[..n].contains(key)) {
                records.push(self.get(key).await);
            }
        }
        match self.defect {
            Defect::ReordersAMultiGet => records.reverse(),
            Defect::AnswersNoKeys if keys.is_empty() => records.push(Ok(None)),
            _ => {}
        }
        records
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        let key = &self.key(key);
        let before = self.slot(key);
        let held = self.token_of(key, Holder::Writer).is_some();
        match self.defect {
            Defect::RemovesWithoutRevoking if !held && before.is_some() => {
                self.change(key, |slot| slot.value = None);
                Ok(Removed::Existing)
            }
            Defect::RemovesOnlyWhatIsStored
                if before.as_ref().is_some_and(|slot| slot.value.is_none()) && !held =>
            {
                Ok(Removed::Nothing)
            }
            Defect::RemovesAHold if held => {
                self.model.step(key, |slot, _| *slot = None);
                Ok(Removed::Held)
            }
            Defect::AlwaysRemovesSomething if before.is_none() => Ok(Removed::Existing),
            Defect::RemovesBesideAHold if held => Ok(Removed::Held),
            _ => self.model.remove(key).await,
        }
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let mut removed = Vec::new();
        for (n, key) in keys.iter().enumerate() {
            if self.is(Defect::RemovesARepeatedKeyOnce) && keys[..n].contains(key) {
                continue;
            }
            removed.push(match self.defect {
                Defect::StopsAMultiRemoveAtTheFirst if n > 0 => Ok(Removed::Nothing),
                _ => self.remove(key).await,
            });
        }
        removed
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        let key = &self.key(key);
        let before = self.slot(key);
        let keep_in_fact = if self.is(Defect::ForgetsKeep) { Duration::MAX } else { keep };
        let expired = self.model.expire(key, keep_in_fact).await?;
        match self.defect {
            Defect::ExpiresWithoutAMark => self.change(key, |slot| {
                slot.value.iter_mut().for_each(|value| value.is_invalidated = false);
            }),
            Defect::ExpiresWithoutRevoking if expired != Expired::Held => {
                let right = before.as_ref().and_then(|slot| slot.right);
                match expired {
                    Expired::Marked => self.change(key, |slot| slot.right = right),
                    _ => self.model.step(key, |slot, _| *slot = before),
                }
            }
            Defect::ExpiresForLonger if expired == Expired::Marked => {
                let now = self.model.step(key, |_, now| now);
                self.change(key, |slot| slot.ends = now + keep);
            }
            _ => {}
        }
        Ok(expired)
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        let key = &self.key(key);
        let nonce_there = self.slot(key).and_then(|slot| Some(slot.value?.nonce));
        match self.defect {
            Defect::TouchesAnything => Ok(self
                .model
                .step(key, |slot, now| slot.as_mut().map(|slot| slot.ends = now + ttl).is_some())),
            Defect::TouchesForLess if nonce_there == Some(nonce) => {
                self.model.step(key, |slot, now| slot.as_mut().map(|slot| slot.ends = now + ttl));
                Ok(true)
            }
            Defect::TouchesToRejuvenate => {
                let touched = self.model.touch(key, nonce, ttl).await?;
                self.model.step(key, |slot, now| {
                    let value = slot.as_mut().and_then(|slot| slot.value.as_mut());
                    value.map(|value| value.stored_at = now)
                });
                Ok(touched)
            }
            _ => self.model.touch(key, nonce, ttl).await,
        }
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }
}

#[async_trait]
impl LeaseBackend for BrokenBackend {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let key = &self.key(key);
        let refuse = refuse.filter(|_| !self.is(Defect::IgnoresRefusal));
        let before = self.slot(key);
        let reply = self.model.get_or_lease(key, token, term, refuse).await?;
        Ok(match reply {
            LeaseReply::Hit(mut record) => {
                record.invalidated |= self.is(Defect::MarksEveryHit);
                LeaseReply::Hit(self.shown(record))
            }
            LeaseReply::Lease { stale } => {
                self.remember(key, token);
                self.break_lease(key, before);
                let stale = stale.filter(|_| !self.is(Defect::LeasesWithoutStale));
                let invents = self.is(Defect::InventsAStaleValue);
                let stale = stale.or_else(|| invents.then(nothing_much));
                LeaseReply::Lease { stale: stale.map(|record| self.shown(record)) }
            }
            LeaseReply::Busy { holder: Holder::Reader, stale, .. } if self.is(Defect::GrantsTwoLeases) => {
                self.change(key, |slot| slot.right.iter_mut().for_each(|right| right.token = Some(token)));
                LeaseReply::Lease { stale }
            }
            LeaseReply::Busy { holder: Holder::Writer, .. } if self.is(Defect::GrantsLeasesUnderAHold) => {
                LeaseReply::Lease { stale: None }
            }
            LeaseReply::Busy { remaining, holder, stale } => LeaseReply::Busy {
                remaining,
                holder,
                stale: stale.filter(|_| !self.is(Defect::BusyWithoutStale)).map(|record| self.shown(record)),
            },
        })
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let key = &self.key(key);
        let put = self.taken(put);
        let (before, outstanding) = (self.slot(key), self.token_of(key, Holder::Reader));
        let is_empty = put.ttl < Duration::from_millis(1);
        let is_unleased = before.as_ref().is_some_and(|slot| slot.right.is_none());
        let token = match (self.defect, outstanding) {
            (Defect::IgnoresTheToken, Some(outstanding)) => outstanding,
            (Defect::AcceptsAnEarlierToken, Some(outstanding)) if self.was_granted(key, token) => outstanding,
            _ => token,
        };
        match self.defect {
            Defect::StoresOnAbsent if before.is_none() && !is_empty => return self.force(key, put).await,
            Defect::StoresOverAnyValue if is_unleased => return self.force(key, put).await,
            Defect::CallsAbsentLost if before.is_none() => return Ok(PutReply::Lost),
            Defect::AcceptsASpentToken if is_unleased && self.was_granted(key, token) => {
                return self.force(key, put).await;
            }
            Defect::KeepsTheRightOfAnEmptyPut if is_empty && before.is_some() => return Ok(PutReply::Lost),
            Defect::RefusesALatePut if self.is_late(key) => return Ok(PutReply::Lost),
            _ => {}
        }
        let reply = self.model.put_leased(key, token, put).await?;
        if let (PutReply::Stored, Some(before)) = (reply, before) {
            self.break_stored(key, &before);
        }
        Ok(reply)
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        let key = &self.key(key);
        let outstanding = self.token_of(key, Holder::Reader);
        let held = self.token_of(key, Holder::Writer);
        match self.defect {
            Defect::ReleasesInWordsOnly => Ok(outstanding == Some(token)),
            Defect::AlwaysReleasesSomething => self.model.release(key, token).await.map(|_| true),
            Defect::ReleasesByAnyToken => self.model.release(key, outstanding.unwrap_or(token)).await,
            Defect::DropsTheValueOnRelease if outstanding == Some(token) => {
                self.model.step(key, |slot, _| *slot = None);
                Ok(true)
            }
            Defect::ReleasesAHold if held == Some(token) => {
                self.model.step(key, |slot, _| *slot = None);
                Ok(true)
            }
            _ => self.model.release(key, token).await,
        }
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        let key = &self.key(key);
        let before = self.slot(key);
        let term = match self.defect {
            Defect::HoldsWithoutEnd => Duration::MAX,
            _ => term,
        };
        let held = self.model.hold(key, token, term).await?;
        if held == Held::Held {
            self.remember(key, token);
        }
        match (self.defect, held) {
            (Defect::HoldsBesideTheValue, Held::Held) => {
                let value = before.and_then(|slot| slot.value);
                self.change(key, |slot| slot.value = value);
            }
            (Defect::OverlapsWithoutPoison, Held::Overlap) => self.model.step(key, |slot, _| *slot = before),
            (Defect::PassesTheHoldOn, Held::Overlap) => {
                self.model.step(key, |slot, _| *slot = None);
                return self.model.hold(key, token, term).await;
            }
            (Defect::PoisonsUntilTheSecondDeadline, Held::Overlap) => self.model.step(key, |slot, now| {
                for right in slot.iter_mut().flat_map(|slot| &mut slot.right) {
                    right.deadline = now + term;
                }
            }),
            _ => {}
        }
        Ok(held)
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let key = &self.key(key);
        let put = self.taken(put);
        let (before, holder) = (self.slot(key), self.token_of(key, Holder::Writer));
        let is_held = self.model.step(key, |slot, now| slot.as_ref()?.live_hold(now)).is_some();
        match self.defect {
            Defect::IgnoresTheWritersToken if is_held => {
                return self.model.put_held(key, holder.unwrap_or(token), put).await;
            }
            Defect::StoresAfterTheHold if !is_held && self.was_granted(key, token) => {
                return self.force(key, put).await;
            }
            _ => {}
        }
        let reply = self.model.put_held(key, token, put).await?;
        if self.is(Defect::SparesTheRecordOfALateWriter) && reply != PutReply::Stored && holder != Some(token)
        {
            self.model.step(key, |slot, _| *slot = before);
        }
        Ok(reply)
    }
}

impl BrokenBackend {
    /// After a lease was granted where `before` was.
    fn break_lease(&self, key: &Key, before: Option<Slot>) {
        match self.defect {
            Defect::DropsTheValueOnALease => self.change(key, |slot| {
                slot.value = None;
                slot.ends = slot.right.map_or(slot.ends, |right| right.deadline);
            }),
            Defect::LeasesWithoutEnd => self.change(key, |slot| {
                for right in slot.right.iter_mut() {
                    right.deadline = Timestamp::NEVER;
                }
                if slot.value.is_none() {
                    slot.ends = Timestamp::NEVER;
                }
            }),
            Defect::LetsTheLeaseDieWithTheValue => self.change(key, |slot| {
                if let Some(before) = before.filter(|before| before.value.is_some()) {
                    slot.value = before.value;
                    slot.ends = before.ends;
                }
            }),
            _ => {}
        }
    }

    /// After a put was stored by a lease where `before` was.
    fn break_stored(&self, key: &Key, before: &Slot) {
        let Some(old) = &before.value else {
            return;
        };
        self.change(key, |slot| match self.defect {
            Defect::KeepsTheOldTtl => slot.ends = before.ends,
            Defect::KeepsTheOldMark => {
                if let Some(value) = &mut slot.value {
                    value.is_invalidated = old.is_invalidated;
                }
            }
            _ => {}
        });
    }

    /// Whether there is a right whose deadline has passed.
    fn is_late(&self, key: &Key) -> bool {
        self.model.step(key, |slot, now| {
            let right = slot.as_ref().and_then(|slot| slot.right);
            right.is_some_and(|right| reached(right.deadline, now))
        })
    }
}

fn nothing_much() -> Record {
    Record {
        payload: Bytes::new(),
        nonce: Nonce::from_bytes([0; 16]),
        age: Duration::ZERO,
        invalidated: false,
    }
}
