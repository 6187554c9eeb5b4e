//! What stands under a key: a value, the right to store one, or both. Pure: every change makes a new one.

use std::time::Duration;

use bytes::Bytes;
use cachalot_core::{Holder, LeaseReply, Nonce, Put, Record, Timestamp, Token};

use crate::write::Change;

#[derive(Clone)]
pub(super) struct Stored {
    value: Option<Value>,
    right: Option<Right>,
    /// When the whole record is gone, as a server's native TTL would have it.
    gone_at: Timestamp,
}

#[derive(Clone)]
struct Value {
    payload: Bytes,
    nonce: Nonce,
    stored_at: Timestamp,
    invalidated: bool,
}

/// The right to store, as it stands in the record.
#[derive(Clone, Copy)]
pub(super) struct Right {
    holder: Holder,
    /// `None`: poisoned, nobody's.
    token: Option<Token>,
    deadline: Timestamp,
}

impl Right {
    pub(super) fn reader(token: Token, deadline: Timestamp) -> Self {
        Self { holder: Holder::Reader, token: Some(token), deadline }
    }

    pub(super) fn writer(token: Token, deadline: Timestamp) -> Self {
        Self { holder: Holder::Writer, token: Some(token), deadline }
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.deadline > now
    }
}

impl Stored {
    /// A right without a value, for as long as the right.
    pub(super) fn bare(right: Right) -> Self {
        Self { value: None, right: Some(right), gone_at: right.deadline }
    }

    /// A value without a right.
    pub(super) fn put(put: &Put, now: Timestamp) -> Self {
        let value =
            Value { payload: put.payload.clone(), nonce: put.nonce, stored_at: now, invalidated: false };
        Self { value: Some(value), right: None, gone_at: now + put.ttl }
    }

    pub(super) fn change(self) -> Change<Self> {
        let gone_at = self.gone_at;
        Change::Put(self, gone_at)
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.value.as_ref().map_or(&[], |value| &value.payload)
    }

    pub(super) fn record(&self, now: Timestamp) -> Option<Record> {
        let value = self.value.as_ref()?;
        Some(Record {
            payload: value.payload.clone(),
            nonce: value.nonce,
            age: now.since(value.stored_at),
            invalidated: value.invalidated,
        })
    }

    pub(super) fn right_is_live(&self, now: Timestamp) -> bool {
        self.right.is_some_and(|right| right.is_live(now))
    }

    /// Whether the reader's lease `token` is outstanding, its deadline passed or not.
    pub(super) fn is_leased_to(&self, token: Token) -> bool {
        self.right.is_some_and(|right| right.holder == Holder::Reader && right.token == Some(token))
    }

    /// Whether `token` has a live hold.
    pub(super) fn is_held_by(&self, token: Token, now: Timestamp) -> bool {
        self.live_hold(now).is_some_and(|right| right.token == Some(token))
    }

    /// The answer to one who comes while somebody else has the right.
    pub(super) fn busy(&self, now: Timestamp, stale: Option<Record>) -> LeaseReply {
        let (remaining, holder) = self
            .right
            .map_or((Duration::ZERO, Holder::Reader), |right| (right.deadline.since(now), right.holder));
        LeaseReply::Busy { remaining, holder, stale }
    }

    /// With a reader's lease beside the value. `None` if the value would not outlive the lease: the lease
    /// must not die with it.
    pub(super) fn leased(&self, token: Token, deadline: Timestamp) -> Option<Self> {
        if self.value.is_none() || self.gone_at <= deadline {
            return None;
        }
        let right = Some(Right::reader(token, deadline));
        Some(Self { right, ..self.clone() })
    }

    /// Without its right; gone if that was all.
    pub(super) fn released(&self) -> Change<Self> {
        match self.value {
            None => Change::Remove,
            Some(_) => Self { right: None, ..self.clone() }.change(),
        }
    }

    /// What an invalidation leaves of a writer's live hold. `None` without one.
    pub(super) fn poisoned(&self, now: Timestamp) -> Option<Self> {
        self.overlapped(now, Timestamp::from_millis(0))
    }

    /// What another hold until `deadline` leaves of a writer's live one. `None` without one.
    pub(super) fn overlapped(&self, now: Timestamp, deadline: Timestamp) -> Option<Self> {
        let right = self.live_hold(now)?;
        Some(Self::bare(Right { token: None, deadline: right.deadline.max(deadline), ..right }))
    }

    /// Marked, without its right, gone at `end` at the latest. `None` without a value.
    pub(super) fn invalidated(&self, end: Timestamp) -> Option<Self> {
        let value = Value { invalidated: true, ..self.value.clone()? };
        Some(Self { value: Some(value), right: None, gone_at: self.gone_at.min(end) })
    }

    /// With its life prolonged to `end`. `None` if that is not due.
    pub(super) fn prolonged(&self, nonce: Nonce, end: Timestamp) -> Option<Self> {
        let value = self.value.as_ref()?;
        let due = value.nonce == nonce && !value.invalidated && self.gone_at < end;
        due.then(|| Self { gone_at: end, ..self.clone() })
    }

    fn live_hold(&self, now: Timestamp) -> Option<Right> {
        self.right.filter(|right| right.holder == Holder::Writer && right.is_live(now))
    }
}
