//! Keys that name a version of another key.

use crate::CacheKey;

/// One version of a key: a key of its own, so that each version is a value of its own. For what never changes once
/// it is there, like the revision of a document, and for readers that ask for a certain version. Readers that want
/// the newest one, whichever that is, are better off with one key whose entry has a version
/// ([`EntryOptions::version`](crate::EntryOptions::version)).
///
/// In bytes `key:v7`.
///
/// ```
/// use cachalot_core::{CacheKey, Versioned};
///
/// let key = Versioned::new(42_u64, 7);
/// assert_eq!(key.to_key_bytes(), b"42:v7");
/// assert_eq!(Versioned::read_key(b"42:v7"), Some(key));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Versioned<K> {
    /// What it is a version of.
    pub key: K,
    /// Which one, by the source's own count.
    pub version: u64,
}

impl<K> Versioned<K> {
    /// This version of `key`.
    pub fn new(key: K, version: u64) -> Self {
        Self { key, version }
    }
}

const MARK: &[u8] = b":v";

/// The key, then `:v` and the number. No number has a `:`, so the last `:v` is always the one, whatever is in the key.
impl<K: CacheKey> CacheKey for Versioned<K> {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.key.write_key(out);
        out.extend_from_slice(MARK);
        self.version.write_key(out);
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        let at = bytes.windows(MARK.len()).rposition(|part| part == MARK)?;
        let (key, version) = (&bytes[..at], &bytes[at + MARK.len()..]);
        Some(Self { key: K::read_key(key)?, version: u64::read_key(version)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_name_no_version_are_none() {
        for foreign in ["", "42", "42:v", "42:7", "x:v7", "42:v-1", "42:v18446744073709551616", "42:v7:"] {
            assert_eq!(Versioned::<u64>::read_key(foreign.as_bytes()), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn any_version_of_any_key_comes_back(key in "[:v0-9a\\\\]{0,6}", version: u64) {
            let key = Versioned::new(key, version);
            prop_assert_eq!(Versioned::read_key(&key.to_key_bytes()), Some(key));
        }

        #[test]
        fn different_versions_and_keys_have_different_bytes(
            a in "[:v1]{0,5}", b in "[:v1]{0,5}", m in prop_oneof![0u64..12, any::<u64>()], n in 0u64..12,
        ) {
            let (one, other) = (Versioned::new(a, m), Versioned::new(b, n));
            prop_assert_eq!(one == other, one.to_key_bytes() == other.to_key_bytes());
        }
    }
}
