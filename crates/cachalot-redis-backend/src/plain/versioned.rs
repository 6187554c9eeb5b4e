//! Versioned keys as the recipe has them.

use cachalot_core::CacheKey;

/// A key at a version: `1` at 3 is `1:v3`, in the cache `user` it is `user:1:v3`. A cache of them keeps each version
/// under a name of its own, so nobody overwrites another's; old ones end by their TTL, or by the removal of the
/// pattern `1:v*`.
///
/// Which version is the newest is for the caller to know, from its source or from a counter in the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Versioned<K> {
    /// The key.
    pub key: K,
    /// Its version.
    pub version: u64,
}

impl<K> Versioned<K> {
    /// `key` at `version`.
    pub const fn new(key: K, version: u64) -> Self {
        Self { key, version }
    }
}

impl<K: CacheKey> CacheKey for Versioned<K> {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.key.write_key(out);
        out.extend_from_slice(b":v");
        self.version.write_key(out);
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        // The last one: a key may have such a part too.
        let at = bytes.windows(2).rposition(|two| two == b":v")?;
        Some(Self { key: K::read_key(&bytes[..at])?, version: u64::read_key(&bytes[at + 2..])? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_its_key() {
        assert_eq!(Versioned::new(1u64, 3).to_key_bytes(), b"1:v3");
        for key in [Versioned::new("a:v1".to_owned(), 0), Versioned::new(String::new(), u64::MAX)] {
            assert_eq!(Versioned::read_key(&key.to_key_bytes()), Some(key));
        }
        assert_eq!(Versioned::<String>::read_key(b"1:3"), None);
        assert_eq!(Versioned::<String>::read_key(b"1:vx"), None);
    }
}
