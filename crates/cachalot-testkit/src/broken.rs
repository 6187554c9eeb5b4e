//! Backends that break one sentence of the contract each: they prove the suite.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::{
    Backend, BackendInfo, Expired, Holder, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce, Put,
    PutReply, Record, Removed, Result, SweepCursor, Swept, TagBackend, Token, VersionBackend,
};

use crate::ModelBackend;
use crate::model_backend::Slot;

mod defect;
mod leases;
mod members;
mod tags;
#[cfg(test)]
mod tests;
mod versions;
pub use defect::Defect;

/// A [`ModelBackend`] with one [`Defect`].
#[derive(Debug)]
pub struct BrokenBackend {
    model: ModelBackend,
    defect: Defect,
    /// Every right that was ever granted.
    granted: Mutex<Vec<(Key, Token)>>,
    /// Every pattern that was swept.
    swept: Mutex<Vec<KeyPattern>>,
    /// Whether a read has begun and not ended.
    is_reading: AtomicBool,
}

impl BrokenBackend {
    /// Breaks `model`.
    pub fn new(model: ModelBackend, defect: Defect) -> Self {
        Self {
            model,
            defect,
            granted: Mutex::default(),
            swept: Mutex::default(),
            is_reading: AtomicBool::new(false),
        }
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

    /// Whether it takes `key` for one that is meant.
    fn sweeps(&self, pattern: &KeyPattern, key: &Key) -> bool {
        let prefix = pattern.as_pattern().literal_prefix();
        match self.defect {
            Defect::SweepsNeighbouringNamespaces => {
                let name = prefix.split(|byte| *byte == b':').next().unwrap_or_default();
                key.as_bytes().starts_with(name)
            }
            Defect::SweepsAllThatBeginsAlike => key.as_bytes().starts_with(prefix),
            Defect::SweepsTextOnly => {
                pattern.matches(key.as_bytes()) && std::str::from_utf8(key.as_bytes()).is_ok()
            }
            _ => pattern.matches(key.as_bytes()),
        }
    }

    /// As [`remove`](Backend::remove), in its own wrong way.
    async fn sweep_one(&self, key: &Key) -> Result<Removed> {
        let before = self.slot(key);
        let is_leased = before.as_ref().is_some_and(|slot| slot.right.is_some());
        let is_held = self.token_of(key, Holder::Writer).is_some();
        match self.defect {
            Defect::SweepsWithoutRevoking if is_leased && !is_held => {
                self.change(key, |slot| slot.value = None);
                Ok(Removed::Existing)
            }
            Defect::SweepsOnlyWhatIsStored if before.is_none_or(|slot| slot.value.is_none()) && !is_held => {
                Ok(Removed::Nothing)
            }
            Defect::SweepsHoldsAway if is_held => {
                self.model.step(key, |slot, _| *slot = None);
                Ok(Removed::Held)
            }
            Defect::SweepsBesideAHold if is_held => Ok(Removed::Held),
            _ => self.model.remove(key).await,
        }
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
        let swept = |pattern: &KeyPattern| pattern.matches(key.as_bytes());
        if self.swept.lock().unwrap_or_else(PoisonError::into_inner).iter().any(swept) {
            return Ok(None);
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

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        if self.is(Defect::SweepsFloors) {
            self.model.forget_floors();
        }
        let (mut part, mut next) = self.model.part_of_a_sweep(from.as_bytes());
        match self.defect {
            Defect::StopsASweepAtTheFirstPart => next = None,
            Defect::StopsASweepWhereNothingMatches => {
                let found = part.iter().any(|key| pattern.matches(key.as_bytes()));
                next = next.filter(|_| found);
            }
            Defect::NeverEndsASweep => next = next.or(Some(SweepCursor::START)),
            Defect::SweepsForEver => {
                let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
                swept.push(pattern.clone());
            }
            Defect::ForgetsTheLastOfAPart if part.len() > 1 => drop(part.pop()),
            Defect::SweepsMembersAway => self.model.lose_members(),
            _ => {}
        }
        let mut removed = 0;
        for key in part.iter().filter(|key| self.sweeps(pattern, key)) {
            removed += u64::from(self.sweep_one(key).await? != Removed::Nothing);
        }
        if self.is(Defect::CountsNoSweptKeys) {
            removed = 0;
        }
        Ok(Swept { removed, next })
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
        self.model.incarnation()
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
