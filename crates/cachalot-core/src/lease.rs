//! Leases: the right to store, granted before the load, revocable, at a tier that processes share.
//!
//! One mechanism prevents both stampedes and stale sets (Nishtala et al., "Scaling Memcache at Facebook",
//! NSDI 2013, §3.2.1). Lease and value live in one record under one key, so whatever deletes the record
//! revokes the right with it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Entropy, Key, Record, Result};

/// The writing side of a [`Backend`](crate::Backend).
///
/// A *reader's lease* lets one loader store; a *writer's hold* lets one writer store and keeps readers from
/// getting a lease meanwhile. Both end at a deadline by the server's clock. For a lease the deadline only
/// lets the next one in: the token alone decides who may store.
#[async_trait]
pub trait LeaseBackend: Send + Sync {
    /// Reads `key`, or wins the right to load it for `term`.
    ///
    /// - A usable value is there → [`LeaseReply::Hit`]. With `refuse`, the value stored under that nonce
    ///   is not usable: the caller has seen it and found it unfit.
    /// - Somebody's live lease or hold is there → [`LeaseReply::Busy`].
    /// - Else → [`LeaseReply::Lease`], to exactly one caller; `token` is now outstanding.
    ///
    /// # Errors
    /// Unavailable, timeout, or a key that is not acceptable. After a timeout the lease may have been
    /// granted: [`release`](LeaseBackend::release) it or let its term end.
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply>;

    /// Stores, if the lease `token` is still outstanding, even past its term, as long as nobody else has
    /// taken it over and the record is there; an absent record is a refusal.
    ///
    /// # Errors
    /// As [`get_or_lease`](LeaseBackend::get_or_lease), or the payload is too large. After a timeout it may
    /// still be stored, as long as the token is outstanding.
    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply>;

    /// Gives the lease back after a failed or unstorable load, so that waiters go on. Whether `token` was
    /// outstanding.
    ///
    /// # Errors
    /// As [`get_or_lease`](LeaseBackend::get_or_lease).
    async fn release(&self, key: &Key, token: Token) -> Result<bool>;

    /// Takes a writer's hold for `term`: drops the value and blocks readers' leases. If another writer's
    /// hold is live, both are poisoned: nobody stores until the later deadline.
    ///
    /// # Errors
    /// As [`get_or_lease`](LeaseBackend::get_or_lease). After a timeout the hold may have been taken.
    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held>;

    /// Ends a hold by storing, if `token` still holds. If another's hold is live it is poisoned and stays,
    /// since this writer may have changed the source under it; a poisoned one stays; if none is live, the
    /// record is dropped.
    ///
    /// # Errors
    /// As [`put_leased`](LeaseBackend::put_leased).
    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply>;
}

/// Something to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The bytes, an [envelope](crate::envelope).
    pub payload: Bytes,
    /// Names this put; fresh for each.
    pub nonce: Nonce,
    /// How long the tier keeps it. Below a millisecond: nothing is stored, the right is given back, and the
    /// reply is [`PutReply::Lost`]. Beyond what the tier can count it is cut to that.
    pub ttl: Duration,
}

/// What [`LeaseBackend::get_or_lease`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseReply {
    /// A usable value.
    Hit(Record),
    /// The caller may load and store. `stale` is what was there and may be served meanwhile, if policy
    /// allows: the refused value, or one marked invalidated.
    Lease {
        /// The value that was there.
        stale: Option<Record>,
    },
    /// Somebody else has the right.
    Busy {
        /// Until when at most, from now.
        remaining: Duration,
        /// Who.
        holder: Holder,
        /// The value that is there, as in [`LeaseReply::Lease`].
        stale: Option<Record>,
    },
}

/// Who has the right to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A loader, by a lease.
    Reader,
    /// A writer, by a hold, or nobody by a poisoned one.
    Writer,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutReply {
    /// Stored.
    Stored,
    /// Refused: the right had been revoked or had passed to another.
    Lost,
    /// Refused: the record is gone, and the right with it.
    Absent,
}

/// What [`LeaseBackend::hold`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The hold.
    Held,
    /// Another writer's hold was live: both are poisoned.
    Overlap,
}

macro_rules! random_16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A fresh one.
            pub fn draw(entropy: &Entropy) -> Self {
                let mut bytes = entropy.draw_128();
                // All zeros means "none" in records.
                bytes[0] |= u8::from(bytes == [0; 16]);
                Self(bytes)
            }

            /// One of these bytes, as read from a record.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Enough to tell two apart in a trace.
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}…)"), self.0[0], self.0[1], self.0[2], self.0[3])
            }
        }
    };
}

random_16! {
    /// Names one grant of the right to store. 128 random bits from the client, never a counter: a counter in
    /// the record would start again when the record is deleted, and an old token would fit a new grant.
    Token
}

random_16! {
    /// Names one successful put: the version of a record. 128 random bits.
    Nonce
}
