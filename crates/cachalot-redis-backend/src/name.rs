//! What a key is called in the server.

use std::borrow::Cow;
use std::fmt::Write;

use cachalot_core::Key;
use sha2::{Digest, Sha256};

/// Keys up to this length are kept as they are. Redis takes longer ones, at a price for every command.
pub(crate) const LONGEST: usize = 512;
/// `~` and SHA-256 in hexadecimal.
const HASH: usize = 65;

/// `prefix` and the key's bytes. Of a longer key the first 512 bytes, so that its namespace stays visible,
/// then `~` and SHA-256: longer than any name that is kept, so the two never meet, and no two long keys do,
/// not even chosen ones.
pub(crate) fn name<'a>(prefix: &[u8], key: &'a Key) -> Cow<'a, [u8]> {
    let bytes = key.as_bytes();
    if prefix.is_empty() && bytes.len() <= LONGEST {
        return Cow::Borrowed(bytes);
    }
    let mut name = Vec::with_capacity(prefix.len() + bytes.len().min(LONGEST + HASH));
    name.extend_from_slice(prefix);
    if bytes.len() <= LONGEST {
        name.extend_from_slice(bytes);
    } else {
        name.extend_from_slice(&bytes[..LONGEST]);
        name.extend_from_slice(hash(bytes).as_bytes());
    }
    Cow::Owned(name)
}

/// The key that is called `name`, and whether that is all of it; of a long key only how it begins is known.
/// `None` if no key has such a name.
pub(crate) fn key_in<'a>(prefix: &[u8], name: &'a [u8]) -> Option<(&'a [u8], bool)> {
    let bytes = name.strip_prefix(prefix)?;
    match bytes.len() {
        length if length == LONGEST + HASH => Some((&bytes[..LONGEST], false)),
        _ => Some((bytes, true)),
    }
}

fn hash(bytes: &[u8]) -> String {
    let mut text = String::from("~");
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_are_kept_behind_the_prefix() {
        let key = Key::new("users:1");
        assert_eq!(&*name(b"", &key), b"users:1");
        assert_eq!(&*name(b"shop:", &key), b"shop:users:1");
    }

    #[test]
    fn long_keys_keep_their_namespace_and_do_not_meet() {
        let long = |last: u8| {
            let mut bytes = b"users:".to_vec();
            bytes.resize(5_000, b'x');
            bytes.push(last);
            Key::new(bytes)
        };
        let (one, two) = (long(1), long(2));
        let name_of = |key| name(b"shop:", key).into_owned();
        assert!(name_of(&one).starts_with(b"shop:users:xx"));
        assert_eq!(name_of(&one).len(), 5 + 512 + 65);
        assert_ne!(name_of(&one), name_of(&two));
        assert_eq!(name_of(&one), name_of(&long(1)));
    }

    #[test]
    fn a_kept_name_never_equals_a_hashed_one() {
        let long = Key::new(vec![b'x'; 513]);
        let forged = Key::new(name(b"", &long).into_owned());
        assert_ne!(name(b"", &forged), name(b"", &long));
    }

    #[test]
    fn the_name_of_a_long_key_is_pinned() {
        let name = name(b"", &Key::new(vec![b'a'; 600])).into_owned();
        let tail = String::from_utf8(name[512..].to_vec()).unwrap();
        assert_eq!(tail, "~ba35c170729417f1499e0886e7e12fcdb4ab00ad411110ae1e888c766d4ed70d");
    }
}
