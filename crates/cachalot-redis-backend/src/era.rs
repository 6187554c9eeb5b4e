//! Which life of which server something belongs to.

use sha2::{Digest, Sha256};

use cachalot_core::mutant;

/// An era: the time in which one server, in one run and one role, forgets nothing that it acknowledged. Zero where
/// that is not asked, see [`Recovery`](crate::Recovery).
///
/// It is known per connection, and whatever is sent is made for the era of the very connection that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Era([u8; Self::LEN]);

impl Era {
    pub(crate) const LEN: usize = 8;
    /// Where no era is asked for; also given to scripts to which it makes no difference.
    pub(crate) const NONE: Self = Self([0; Self::LEN]);

    /// That of a server which says so of itself. Never zero.
    pub(crate) fn of(identity: &str) -> Self {
        let mut era = [0; Self::LEN];
        for (byte, hashed) in era.iter_mut().zip(Sha256::digest(identity.as_bytes())) {
            *byte = hashed;
        }
        era[0] |= 1;
        Self(era)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Whether a value that was stored in `bytes` is one of this era.
    pub(crate) fn has_stored(self, bytes: &[u8]) -> bool {
        bytes == self.0 || mutant!(TrustsValuesOfAnotherEra)
    }

    /// The token of a lease or hold as it stands in the server: another one in every era, and the same one as given
    /// in none.
    pub(crate) fn lease_token(self, token: &[u8; 16]) -> [u8; 16] {
        if mutant!(KeepsLeasesAcrossEras) { *token } else { self.mixed(*token) }
    }

    /// The token of a tag as it stands in the server, of the one that callers know; and the other way round.
    pub(crate) fn tag_token(self, token: [u8; 32]) -> [u8; 32] {
        if mutant!(KeepsTagsAcrossEras) { token } else { self.mixed(token) }
    }

    /// Each eight bytes of `token` with the era upon them. Twice gives `token` again.
    fn mixed<const N: usize>(self, mut token: [u8; N]) -> [u8; N] {
        for (byte, era) in token.iter_mut().zip(self.0.iter().cycle()) {
            *byte ^= era;
        }
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_another_one_in_every_era_and_the_same_again_in_its_own() {
        let (one, two) = (Era::of("a"), Era::of("b"));
        assert_ne!(one, two);
        assert_ne!(one, Era::NONE);
        let token = [7; 16];
        assert_eq!(Era::NONE.lease_token(&token), token);
        assert_ne!(one.lease_token(&token), two.lease_token(&token));
        let tag = [9; 32];
        assert_eq!(one.tag_token(one.tag_token(tag)), tag);
        // Both halves, since each is compared alone.
        let seen = two.tag_token(one.tag_token(tag));
        assert_ne!(seen[..16], tag[..16]);
        assert_ne!(seen[16..], tag[16..]);
    }

    #[test]
    fn an_era_stores_for_itself() {
        let (one, two) = (Era::of("a"), Era::of("b"));
        assert!(one.has_stored(one.as_bytes()));
        assert!(!two.has_stored(one.as_bytes()) && !Era::NONE.has_stored(one.as_bytes()));
        assert!(!one.has_stored(Era::NONE.as_bytes()));
    }
}
