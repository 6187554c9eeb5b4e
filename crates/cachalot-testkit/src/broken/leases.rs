//! Its leases and holds.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Held, Holder, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Result, Timestamp, Token,
};

use super::{BrokenBackend, Defect, nothing_much};
use crate::model_backend::{Slot, reached};

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
