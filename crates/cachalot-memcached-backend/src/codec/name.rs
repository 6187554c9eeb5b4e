//! What a key is called in the server.

use std::fmt;

use bytes::{BufMut, BytesMut};
use sha2::{Digest, Sha256};

/// Keys up to this length are kept as they are, if nothing in them is odd: what memcached allows.
const LONGEST: usize = 250;
/// How many bytes the text of an odd name, four characters for three bytes, has room for.
const ODD_LONGEST: usize = LONGEST / 4 * 3;
/// Where the hash of a long key begins.
const HASH_AT: usize = ODD_LONGEST - 32;

/// A key in the server: 1 to 250 bytes of text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    text: Box<[u8]>,
    is_odd: bool,
}

impl Name {
    /// The name of `key` behind `prefix`. It is
    ///
    /// - the bytes themselves, if they are 1 to 250 and none is a space, a control character or DEL: what other clients
    ///   call it, and what rings place it by;
    /// - else the same bytes, told in base64 (flag `b`), if they are at most 185;
    /// - else 186 bytes, told in base64: as many of the first as fit, zeros up to byte 154, then SHA-256 of them all.
    ///
    /// The three never meet, since the last has an odd byte and a length that the second never has.
    pub fn new(prefix: &[u8], key: &[u8]) -> Self {
        let whole = [prefix, key].concat();
        let is_odd = whole.is_empty() || whole.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f));
        if !is_odd && whole.len() <= LONGEST {
            return Self { text: whole.into(), is_odd };
        }
        if is_odd && (1..ODD_LONGEST).contains(&whole.len()) {
            return Self { text: base64(&whole), is_odd };
        }
        let mut bytes = [0; ODD_LONGEST];
        // One zero at least, so that the name is odd.
        let shown = whole.len().min(HASH_AT - 1);
        bytes[..shown].copy_from_slice(&whole[..shown]);
        bytes[HASH_AT..].copy_from_slice(&Sha256::digest(&whole));
        Self { text: base64(&bytes), is_odd: true }
    }

    /// What stands in the place of the key.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the text is base64 (flag `b`).
    pub fn is_odd(&self) -> bool {
        self.is_odd
    }

    /// Writes it, with the flag it needs.
    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_slice(&self.text);
    }

    pub(super) fn write_flag(&self, out: &mut BytesMut) {
        if self.is_odd {
            out.put_slice(b" b");
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({}{})", self.text.escape_ascii(), if self.is_odd { " b" } else { "" })
    }
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> Box<[u8]> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { digit } else { b'=' });
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(&*base64(bytes.as_bytes()), text.as_bytes());
        }
        assert_eq!(&*base64(&[0xfb, 0xff, 0xbf]), b"+/+/");
    }

    #[test]
    fn clean_keys_are_kept_up_to_250_bytes() {
        let longest = [b'k'; 250];
        for key in [&b"users:1"[..], b"k", "\u{fc}".as_bytes(), &longest] {
            let name = Name::new(b"", key);
            assert_eq!((name.text(), name.is_odd()), (key, false));
        }
        assert_eq!(Name::new(b"shop:", b"users:1").text(), b"shop:users:1");
        assert!(Name::new(b"", &[b'k'; 251]).is_odd());
        assert!(Name::new(b"s", &longest).is_odd(), "the prefix counts");
    }

    #[test]
    fn odd_keys_are_told_in_base64() {
        for key in [&b"a b"[..], b"a\nb", b"a\r\nmg b v", b"\0", b"\x7f", b" "] {
            let name = Name::new(b"", key);
            assert_eq!((name.text(), name.is_odd()), (&*base64(key), true));
        }
    }

    #[test]
    fn no_two_keys_have_one_name() {
        let mut keys: Vec<Vec<u8>> = vec![vec![], vec![0], b"a".to_vec(), b"YQ==".to_vec(), b"a ".to_vec()];
        for length in [153, 154, 155, 184, 185, 186, 187, 249, 250, 251, 252, 10_000] {
            keys.push(vec![b'k'; length]);
            keys.push(vec![b' '; length]);
            keys.push([vec![b'k'; length], b"2".to_vec()].concat());
        }
        // What looks like the name of a long one.
        let long = Name::new(b"", &[b'k'; 251]);
        keys.push(long.text().to_vec());
        keys.push([vec![b'k'; 153], vec![0], Sha256::digest([b'k'; 251]).to_vec()].concat());
        keys.sort();
        keys.dedup();
        let names: std::collections::HashSet<Name> = keys.iter().map(|key| Name::new(b"", key)).collect();
        assert_eq!(names.len(), keys.len());
        for name in names {
            assert!((1..=LONGEST).contains(&name.text().len()), "{name:?}");
            assert!(name.text().iter().all(|byte| *byte > b' ' && *byte != 0x7f), "{name:?}");
        }
    }

    #[test]
    fn the_name_of_a_long_key_is_pinned() {
        let name = Name::new(b"", &[b'a'; 600]);
        let hash = [
            0xba, 0x35, 0xc1, 0x70, 0x72, 0x94, 0x17, 0xf1, 0x49, 0x9e, 0x08, 0x86, 0xe7, 0xe1, 0x2f, 0xcd,
            0xb4, 0xab, 0x00, 0xad, 0x41, 0x11, 0x10, 0xae, 0x1e, 0x88, 0x8c, 0x76, 0x6d, 0x4e, 0xd7, 0x0d,
        ];
        assert_eq!(name.text(), &*base64(&[vec![b'a'; 153], vec![0], hash.to_vec()].concat()));
    }
}
