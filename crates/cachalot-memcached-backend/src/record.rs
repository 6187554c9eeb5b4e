//! What lies under a key: kinds, told by the flags beside the item, and the header before a payload.
//!
//! ```text
//! value     nonce 16 | token 16 | lease ends 4 | written with 4 | age then 4 | payload
//! lease     token 16             a reader's, where no value is kept
//! hold      token 16             a writer's; poisoned: nobody's, 16 zeros
//! tag       token 32
//! nothing                        a reader's lease, granted by `mg N`: who has it knows its CAS
//! ```
//!
//! The server tells no time, but how many seconds an item has left; so all times here are such: a lease beside a value
//! is over when the item has no more than *lease ends* left, and the value is older than *age then* by what it has left
//! less than it was *written with*. Numbers are big-endian.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use cachalot_core::{Nonce, Record, TagToken, Token};

use crate::codec::{Item, LONGEST, Meta};

/// Of all flags of ours; the last byte is the kind. A change of what is above is a change of the third byte.
const OURS: u32 = 0xCA5E_0100;
const VALUE: u32 = OURS | 1;
const LEASE: u32 = OURS | 2;
const HOLD: u32 = OURS | 3;
const POISON: u32 = OURS | 4;
const TAG: u32 = OURS | 5;

/// Bytes of the header of a value.
pub(crate) const HEADER: usize = 44;
/// Bytes of a token.
const TOKEN: u64 = 16;
const NOBODY: [u8; 16] = [0; 16];

/// What an item is, as it is known without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Value,
    /// A reader's lease alone.
    Lease,
    /// A writer's hold.
    Hold,
    /// One that nobody has.
    Poison,
    /// A tag's token, or somebody else's.
    Other,
}

impl Kind {
    pub(crate) fn of(meta: &Meta) -> Self {
        match (meta.size, meta.flags) {
            (0, _) | (TOKEN, LEASE) => Self::Lease,
            (size, VALUE) if size >= HEADER as u64 => Self::Value,
            (TOKEN, HOLD) => Self::Hold,
            (_, POISON) => Self::Poison,
            _ => Self::Other,
        }
    }
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Value(Value),
    /// A lease that the server granted.
    Stub,
    Lease(Token),
    Hold(Token),
    Poison,
    Other,
}

/// A value and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) nonce: Nonce,
    /// Whoever has the lease beside it, and how many seconds it still has. Kept by name for as long as nobody else
    /// comes.
    pub(crate) lease: Option<(Token, u32)>,
    pub(crate) payload: Bytes,
    /// Seconds.
    pub(crate) age: u32,
    /// Seconds.
    pub(crate) left: u32,
    pub(crate) invalidated: bool,
}

impl Found {
    /// Reads an item. What is not as it should be is somebody else's.
    pub(crate) fn read(meta: &Meta, mut body: Bytes) -> Self {
        let token = |body: &[u8]| Some(Token::from_bytes(body.try_into().ok()?));
        let found = match meta.flags {
            _ if body.is_empty() => Some(Self::Stub),
            VALUE if body.len() >= HEADER => {
                let payload = body.split_off(HEADER);
                Value::read(meta, &body, payload).map(Self::Value)
            }
            LEASE => token(&body).map(Self::Lease),
            HOLD => token(&body).map(Self::Hold),
            POISON => Some(Self::Poison),
            _ => None,
        };
        found.unwrap_or(Self::Other)
    }
}

impl Value {
    fn read(meta: &Meta, head: &[u8], payload: Bytes) -> Option<Self> {
        let bytes = |at: usize| head.get(at..at + 16)?.try_into().ok();
        let number = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let (token, left) = (bytes(16)?, left(meta));
        let lease_ends = number(32)?;
        let age = number(40)?.saturating_add(number(36)?.saturating_sub(left));
        // Who expires a value takes the lease beside it, without writing it.
        let has_lease = token != NOBODY && !meta.stale;
        let lease = has_lease.then(|| (Token::from_bytes(token), left.saturating_sub(lease_ends)));
        let nonce = Nonce::from_bytes(bytes(0)?);
        Some(Self { nonce, lease, payload, age, left, invalidated: meta.stale })
    }

    /// As callers know it.
    pub(crate) fn record(&self) -> Record {
        Record {
            payload: self.payload.clone(),
            nonce: self.nonce,
            age: Duration::from_secs(self.age.into()),
            invalidated: self.invalidated,
        }
    }

    /// Whether `token` has the lease beside it, be its term over.
    pub(crate) fn is_leased_to(&self, token: Token) -> bool {
        self.lease.is_some_and(|(by, _)| by == token)
    }

    /// The same value with a lease of so many seconds beside it, or with none.
    pub(crate) fn with_lease(&self, lease: Option<(Token, u32)>) -> Item {
        self.item(lease, self.left)
    }

    /// The same value and lease, with so many seconds left.
    pub(crate) fn prolonged(&self, seconds: u32) -> Item {
        self.item(self.lease, seconds)
    }

    fn item(&self, lease: Option<(Token, u32)>, left: u32) -> Item {
        let lease = lease.map(|(token, term)| (token, left.saturating_sub(term)));
        item(self.nonce, lease, self.age, left, self.payload.clone())
    }
}

/// A new value that lives for so many seconds.
pub(crate) fn value(nonce: Nonce, payload: Bytes, seconds: u32) -> Item {
    item(nonce, None, 0, seconds, payload)
}

fn item(nonce: Nonce, lease: Option<(Token, u32)>, age: u32, seconds: u32, payload: Bytes) -> Item {
    let (token, ends) = lease.map_or((NOBODY, 0), |(token, ends)| (*token.as_bytes(), ends));
    let mut head = BytesMut::with_capacity(HEADER);
    head.put_slice(nonce.as_bytes());
    head.put_slice(&token);
    head.put_u32(ends);
    head.put_u32(seconds);
    head.put_u32(age);
    Item { flags: VALUE, seconds, head: head.freeze(), payload }
}

/// A reader's lease where no value is kept.
pub(crate) fn lease(token: Token, seconds: u32) -> Item {
    bare(LEASE, token.as_bytes(), seconds)
}

/// A writer's hold.
pub(crate) fn hold(token: Token, seconds: u32) -> Item {
    bare(HOLD, token.as_bytes(), seconds)
}

/// A hold that nobody has.
pub(crate) fn poison(seconds: u32) -> Item {
    bare(POISON, &NOBODY, seconds)
}

/// A tag's token; 0 seconds: for ever.
pub(crate) fn tag(token: TagToken, seconds: u32) -> Item {
    bare(TAG, &token.to_bytes(), seconds)
}

/// The token of a tag in an item. `None` for what is none.
pub(crate) fn tag_in(meta: &Meta, body: &[u8]) -> Option<TagToken> {
    (meta.flags == TAG).then(|| TagToken::from_bytes(body)).flatten()
}

fn bare(flags: u32, head: &[u8], seconds: u32) -> Item {
    Item { flags, seconds, head: Bytes::copy_from_slice(head), payload: Bytes::new() }
}

/// How many seconds an item has left. Ours all end, so one of which it was not said ends late.
pub(crate) fn left(meta: &Meta) -> u32 {
    meta.ttl.unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce::from_bytes([9; 16]);
    const TOKEN: Token = Token::from_bytes([7; 16]);

    /// Reads `item` when it has so many seconds left.
    fn read(item: &Item, left: u32, stale: bool) -> Found {
        let body = Bytes::from([&item.head[..], &item.payload].concat());
        let meta = Meta { flags: item.flags, ttl: Some(left), stale, ..Meta::default() };
        Found::read(&meta, body)
    }

    fn read_value(item: &Item, left: u32) -> Value {
        match read(item, left, false) {
            Found::Value(value) => value,
            other => panic!("a value was to be read: {other:?}"),
        }
    }

    #[test]
    fn a_value_grows_older_as_its_life_runs_out() {
        let item = value(NONCE, Bytes::from_static(b"v"), 60);
        let new = read_value(&item, 60).record();
        assert_eq!(
            (&new.payload[..], new.nonce, new.age, new.invalidated),
            (&b"v"[..], NONCE, Duration::ZERO, false)
        );
        assert_eq!(read_value(&item, 45).age, 15);
        assert_eq!(read_value(&item, 61).age, 0, "a server whose clock was set back");
        let touched = read_value(&item, 45).prolonged(600);
        assert_eq!(touched.seconds, 600);
        assert_eq!(read_value(&touched, 600).age, 15);
        assert_eq!(read_value(&touched, 590).age, 25);
    }

    #[test]
    fn a_lease_beside_a_value_ends_by_what_the_value_has_left() {
        let item = value(NONCE, Bytes::from_static(b"v"), 60);
        assert_eq!(read_value(&item, 60).lease, None);
        let leased = read_value(&item, 50).with_lease(Some((TOKEN, 30)));
        assert_eq!((leased.seconds, read_value(&leased, 50).lease), (50, Some((TOKEN, 30))));
        assert_eq!(read_value(&leased, 21).lease, Some((TOKEN, 1)));
        let over = read_value(&leased, 20);
        assert_eq!((over.lease, over.is_leased_to(TOKEN), over.age), (Some((TOKEN, 0)), true, 40));
        let touched = read_value(&leased, 40).prolonged(90);
        assert_eq!(read_value(&touched, 90).lease, Some((TOKEN, 20)), "a touch prolongs no lease");
        assert_eq!(read_value(&read_value(&leased, 40).with_lease(None), 40).lease, None);
    }

    #[test]
    fn an_expired_value_has_no_lease() {
        let item = read_value(&value(NONCE, Bytes::new(), 60), 60).with_lease(Some((TOKEN, 30)));
        match read(&item, 60, true) {
            Found::Value(value) => assert_eq!((value.lease, value.invalidated), (None, true)),
            other => panic!("a value was to be read: {other:?}"),
        }
    }

    #[test]
    fn kinds_are_told_with_and_without_their_bytes() {
        let tags = TagToken::from_bytes(&[5; 32]).unwrap();
        let foreign = Item { flags: 0, ..lease(TOKEN, 9) };
        for (item, kind, found) in [
            (lease(TOKEN, 9), Kind::Lease, Found::Lease(TOKEN)),
            (hold(TOKEN, 9), Kind::Hold, Found::Hold(TOKEN)),
            (poison(9), Kind::Poison, Found::Poison),
            (tag(tags, 9), Kind::Other, Found::Other),
            (foreign, Kind::Other, Found::Other),
        ] {
            let meta = Meta { flags: item.flags, size: item.head.len() as u64, ..Meta::default() };
            assert_eq!((Kind::of(&meta), read(&item, 9, false)), (kind, found));
        }
        assert_eq!(Kind::of(&Meta::default()), Kind::Lease);
        assert_eq!(Found::read(&Meta::default(), Bytes::new()), Found::Stub);
        let meta = Meta { flags: TAG, ..Meta::default() };
        assert_eq!(tag_in(&meta, &tags.to_bytes()), Some(tags));
        assert_eq!(tag_in(&meta, &[5; 31]), None);
        assert_eq!(tag_in(&Meta::default(), &tags.to_bytes()), None);
    }

    #[test]
    fn cut_headers_are_somebody_elses_and_never_panic() {
        let item = value(NONCE, Bytes::new(), 60);
        for length in 1..HEADER {
            let meta = Meta { flags: VALUE, ..Meta::default() };
            assert_eq!(Found::read(&meta, item.head.slice(..length)), Found::Other, "{length}");
            let meta = Meta { flags: HOLD, ..Meta::default() };
            let is_hold = matches!(Found::read(&meta, item.head.slice(..length)), Found::Hold(_));
            assert_eq!(is_hold, length == 16);
        }
        assert_eq!(read_value(&item, 60).payload.len(), 0);
    }
}
