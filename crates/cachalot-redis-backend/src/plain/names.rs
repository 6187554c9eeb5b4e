//! What things are called in the server.

use std::borrow::Cow;

use cachalot_core::{Error, ErrorKind, Key, Result};

/// What no key of a cache may begin with: the layout's own names.
const RESERVED: [&[u8]; 3] = [LOCK, TAG, b"#"];
const LOCK: &[u8] = b"lock:";
const TAG: &[u8] = b"tag:";

/// The bare key, prefix included, however long it is.
pub(super) fn bare<'a>(key_prefix: &[u8], key: &'a Key) -> Cow<'a, [u8]> {
    match key_prefix.is_empty() {
        true => Cow::Borrowed(key.as_bytes()),
        false => Cow::Owned([key_prefix, key.as_bytes()].concat()),
    }
}

/// Refuses a key that would be taken for a lock or a tag.
pub(super) fn check(bare: &[u8]) -> Result<()> {
    if !RESERVED.iter().any(|name| bare.starts_with(name)) {
        return Ok(());
    }
    let detail = "the layout `plain` keeps names that begin with `lock:`, `tag:` or `#` for itself: name the cache otherwise";
    Err(Error::new(ErrorKind::Config, "redis plain").detail(detail).key(bare))
}

/// The lock of a bare key.
pub(super) fn lock(bare: &[u8]) -> Vec<u8> {
    [LOCK, bare].concat()
}

/// The bare key whose lock is called `name`.
pub(super) fn locked(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(LOCK)
}

/// The set of a tag.
pub(super) fn set(tag: &[u8]) -> Vec<u8> {
    [TAG, tag].concat()
}

/// Where the token of a tag lies: beside its set, like that one for all caches alike.
pub(super) fn token(tag: &[u8]) -> Vec<u8> {
    [b"#", tag].concat()
}

/// The tag whose token a cache calls `name`, which is `namespace#tag`; empty for the epoch. `None` for another name.
pub(super) fn tag_of(name: &Key) -> Option<&[u8]> {
    let name = name.as_bytes();
    name.iter().position(|byte| *byte == b'#').map(|at| &name[at + 1..])
}

#[cfg(test)]
mod tests {
    use cachalot_core::{Namespace, Tag};

    use super::*;

    #[test]
    fn names_are_those_of_the_recipe() {
        let user = Namespace::new("user").unwrap();
        let bare = bare(b"", &user.key(&1)).into_owned();
        assert_eq!(bare, b"user:1");
        assert_eq!(lock(&bare), b"lock:user:1");
        assert_eq!(locked(b"lock:user:1"), Some(&b"user:1"[..]));
        assert_eq!(set(b"hot"), b"tag:hot");
        let hot = user.tag(&Tag::new("hot").unwrap());
        assert_eq!(tag_of(&hot), Some(&b"hot"[..]));
        assert_eq!(tag_of(&user.epoch()), Some(&b""[..]));
        assert_eq!(token(b"hot"), b"#hot");
    }

    #[test]
    fn a_prefix_is_part_of_the_bare_key() {
        let key = Namespace::new("user").unwrap().key(&1);
        assert_eq!(&*bare(b"shop:", &key), b"shop:user:1");
        assert_eq!(lock(&bare(b"shop:", &key)), b"lock:shop:user:1");
    }

    #[test]
    fn names_of_the_layout_are_no_keys() {
        for name in ["lock:user:1", "tag:hot", "#hot"] {
            assert_eq!(check(name.as_bytes()).unwrap_err().kind(), ErrorKind::Config, "{name}");
        }
        assert!(check(b"locks:1").is_ok());
    }
}
