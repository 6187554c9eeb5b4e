//! What tags stand at in a shared tier.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Entropy, Key, Nonce, Result};

/// What a tag stands at: two random halves of 128 bits. Whoever removes the tag changes both; whoever expires
/// it, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagToken {
    /// Changed by a removal only.
    pub removed: Nonce,
    /// Changed by either.
    pub expired: Nonce,
}

impl TagToken {
    /// Bytes of a token.
    pub const LEN: usize = 32;

    /// A fresh one.
    pub fn draw(entropy: &Entropy) -> Self {
        Self { removed: Nonce::draw(entropy), expired: Nonce::draw(entropy) }
    }

    /// One of these bytes. `None` if they are not [`LEN`](TagToken::LEN).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (removed, expired) = bytes.split_first_chunk::<16>()?;
        let expired = <[u8; 16]>::try_from(expired).ok()?;
        Some(Self { removed: Nonce::from_bytes(*removed), expired: Nonce::from_bytes(expired) })
    }

    /// Its bytes: the half of removals, then the other.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(self.removed.as_bytes());
        bytes[16..].copy_from_slice(self.expired.as_bytes());
        bytes
    }
}

/// How far an invalidation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// Forgotten.
    Remove,
    /// Kept, to be served only if a load fails.
    Expire,
}

/// The tag tokens of a [`Backend`](crate::Backend). They lie beside the records, under names that no record
/// has.
///
/// A token is used once: no implementation sends one a second time, not even if the first time had no answer.
/// Sent again after somebody has replaced it, it would revive what was removed with it.
#[async_trait]
pub trait TagBackend: Send + Sync {
    /// The tokens under `names`, in their order; `None` where there is none. In few round trips, over Redis
    /// one.
    ///
    /// # Errors
    /// Unavailable or timeout.
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>>;

    /// The tokens under `names`, in their order. Where there is none, that of `fresh` is put. Each lives for
    /// `ttl` more at least. The last two are looked at in the order given, after all others: what they stand at is
    /// not older than what the others do.
    /// `fresh` is as long as `names`.
    ///
    /// # Errors
    /// Unavailable or timeout. Some may have been put.
    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>>;

    /// Replaces the tokens under `names` by those of `fresh`, the first before all others; by [`Depth::Expire`] their
    /// second half alone, unless there is none. One that is new lives for `ttl`. `fresh` is as long as
    /// `names`.
    ///
    /// # Errors
    /// Unavailable or timeout. Some may have been replaced, or may still be.
    async fn rotate_tags(&self, names: &[Key], fresh: &[TagToken], depth: Depth, ttl: Duration)
    -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_its_bytes_say() {
        let token = TagToken::draw(&Entropy::seeded(3));
        assert_eq!(TagToken::from_bytes(&token.to_bytes()), Some(token));
        assert_eq!(TagToken::from_bytes(&[0; 31]), None);
        assert_eq!(TagToken::from_bytes(&[0; 33]), None);
    }
}
