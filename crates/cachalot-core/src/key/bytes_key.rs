//! The key of a shared tier: a namespace and bytes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::short_key;
use crate::{CacheKey, Error, ErrorKind, Result, Tag};

/// The name of a cache in its shared tiers: the first part of every key, so that caches don't meet and a
/// clear of `users` never touches `usersAbc`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// A namespace of 1 to 64 ASCII letters, digits, `-`, `_`, `.` and `/`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for any other text: a `:` would run into the key, and glob characters into
    /// patterns.
    pub fn new(name: &str) -> Result<Self> {
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        if (1..=64).contains(&name.len()) && name.bytes().all(usable) {
            return Ok(Self(name.into()));
        }
        let detail = "a cache's name is 1 to 64 ASCII letters, digits, '-', '_', '.' or '/'";
        Err(Error::new(ErrorKind::Config, "naming a cache").detail(detail).key(name.as_bytes()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of `key` in this namespace.
    pub fn key(&self, key: &(impl CacheKey + ?Sized)) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len() + 33);
        bytes.extend_from_slice(self.0.as_bytes());
        bytes.push(b':');
        key.write_key(&mut bytes);
        Key::new(bytes)
    }

    /// Where the token of `tag` lies: `namespace#tag`, which is no record's key, since no namespace has a `#`; of
    /// [`everything`](Tag::everything) `namespace!`.
    pub fn tag(&self, tag: &Tag) -> Key {
        match tag.as_bytes() {
            [] => Key::new([self.0.as_bytes(), b"!"].concat()),
            name => self.mark(name),
        }
    }

    /// Where the epoch of all tags lies, which changes before any of their tokens does.
    pub fn epoch(&self) -> Key {
        self.mark(b"")
    }

    /// Where the members of the cache are listed: `namespace@`, which is no record's key and no token's, since no
    /// namespace has an `@`.
    pub fn members(&self) -> Key {
        Key::new([self.0.as_bytes(), b"@"].concat())
    }

    /// Where the epoch of all [dependants' tags](Tag::of_dependants) lies, which is no tag's: a removal of a key
    /// changes this one alone.
    pub fn epoch_of_dependants(&self) -> Key {
        self.mark(b"\0")
    }

    /// Where the floor of the versions of `key`, a key of this namespace, lies: `namespace^key`, which is no record's
    /// key, since no namespace has a `^`.
    pub fn floor(&self, key: &Key) -> Key {
        let own = key.as_bytes().get(self.0.len() + 1..).unwrap_or_default();
        Key::new([self.0.as_bytes(), b"^", own].concat())
    }

    /// Where the right to do what one process does for all lies: `namespace~name`, which is no record's key, since no
    /// namespace has a `~`.
    pub fn duty(&self, name: &str) -> Key {
        Key::new([self.0.as_bytes(), b"~", name.as_bytes()].concat())
    }

    fn mark(&self, name: &[u8]) -> Key {
        Key::new([self.0.as_bytes(), b"#", name].concat())
    }
}

/// A key in a shared tier: `namespace:key`, any bytes, with a stable fingerprint. A clone shares the bytes.
/// Its `Debug` shows it shortened, as errors do.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    bytes: Bytes,
    fingerprint: u64,
}

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let fingerprint = xxhash_rust::xxh3::xxh3_64(&bytes);
        Self { bytes, fingerprint }
    }

    /// All of its bytes, namespace included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// XXH3-64 of its bytes, seed 0: the same in every process and release. Binds an
    /// [envelope](crate::envelope) to its key.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", short_key(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_do_not_run_into_keys() {
        let (users, longer) = (Namespace::new("users").unwrap(), Namespace::new("usersAbc").unwrap());
        assert_eq!(users.key(&7u8).as_bytes(), b"users:7");
        assert_ne!(users.key("Abc:1"), longer.key("1"));
        for bad in ["", "a:b", "a*", "a b", "ü", &"x".repeat(65)] {
            assert_eq!(Namespace::new(bad).unwrap_err().kind(), ErrorKind::Config, "{bad:?}");
        }
    }

    #[test]
    fn no_tag_meets_a_key() {
        let (users, tag) = (Namespace::new("users").unwrap(), Tag::new("7").unwrap());
        assert_eq!(users.tag(&tag).as_bytes(), b"users#7");
        assert_eq!(users.epoch().as_bytes(), b"users#");
        assert_eq!(users.tag(&Tag::everything()).as_bytes(), b"users!");
        assert_eq!(users.members().as_bytes(), b"users@");
        assert_eq!(users.floor(&users.key(&7u8)).as_bytes(), b"users^7");
        assert_eq!(users.duty("warm").as_bytes(), b"users~warm");
    }

    #[test]
    fn long_and_binary_keys_are_shortened_and_escaped_in_debug() {
        assert_eq!(format!("{:?}", Key::new("users:42")), "Key(users:42)");
        assert_eq!(format!("{:?}", Key::new(&b"a\xff\n"[..])), r"Key(a\xff\n)");
        assert_eq!(format!("{:?}", Key::new("x".repeat(40))), format!("Key({}…)", "x".repeat(32)));
    }

    #[test]
    fn the_fingerprint_is_pinned() {
        // XXH3-64 of the empty input, from the algorithm's reference vectors.
        assert_eq!(Key::new("").fingerprint(), 0x2d06_8005_38d3_94c2);
    }
}
