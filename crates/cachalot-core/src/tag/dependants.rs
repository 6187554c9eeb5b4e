//! Tags that no caller can give: all that depends on a key has the key's.

use xxhash_rust::xxh3::xxh3_128;

use super::Tag;

/// What begins so is the cache's own, unless there are two.
const OWN: u8 = 0;
const BY_NAME: u8 = b'=';
const BY_HASH: u8 = b'#';
const ANY: u8 = b'*';

impl Tag {
    /// The tag of all that depends on the key with this [byte form](crate::CacheKey), in a cache that is built for
    /// dependencies. No tag of a caller is the same, and two keys have different ones; but two of over 254 bytes
    /// each, of which only the XXH3-128 counts, may share one: then what depends on either ends with both.
    pub fn of_dependants(key: &[u8]) -> Self {
        let name = match key.len() {
            0..=254 => [&[OWN, BY_NAME], key].concat(),
            _ => [&[OWN, BY_HASH][..], &xxh3_128(key).to_be_bytes()].concat(),
        };
        Self(name.into())
    }

    /// The tag of all that depends on any key.
    pub fn of_all_dependants() -> Self {
        Self([OWN, ANY].into())
    }

    /// Whether it is one of these.
    pub fn is_of_dependants(&self) -> bool {
        self.0.first() == Some(&OWN) && self.0.get(1) != Some(&OWN)
    }

    /// The tag of this name, whoever gave it: what was stored or sent. `None` if no tag has such a name.
    pub fn from_wire(name: &[u8]) -> Option<Self> {
        (1..=Self::MAX_LEN + 1).contains(&name.len()).then(|| Self(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;

    #[test]
    fn no_caller_can_give_the_tag_of_a_key() {
        for tag in [Tag::of_dependants(b"7"), Tag::of_dependants(&[7; 300]), Tag::of_all_dependants()] {
            assert!(tag.is_of_dependants());
            let namesake = Tag::new(tag.as_bytes()).unwrap();
            assert!(namesake != tag && !namesake.is_of_dependants());
            assert_eq!(Tag::from_wire(tag.as_bytes()), Some(tag));
        }
        assert!(!Tag::new("7").unwrap().is_of_dependants() && !Tag::everything().is_of_dependants());
        assert_eq!((Tag::from_wire(b""), Tag::from_wire(&[1; 258])), (None, None));
        let longest = Tag::new([0; Tag::MAX_LEN]).unwrap();
        assert_eq!(Tag::from_wire(longest.as_bytes()), Some(longest));
    }

    #[test]
    fn keys_of_any_length_have_tags_of_their_own() {
        let keys = [0, 1, 16, 253, 254, 255, 256, 1000].map(|length| vec![b'#'; length]);
        let mut names: Vec<_> = keys.iter().map(|key| Tag::of_dependants(key)).collect();
        // A short key that looks like the hash of a long one.
        names.push(Tag::of_dependants(&names[7].as_bytes()[1..]));
        names.push(Tag::of_all_dependants());
        assert!(names.iter().all(|tag| tag.as_bytes().len() <= Tag::MAX_LEN));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn their_tokens_and_their_epoch_lie_apart() {
        let users = Namespace::new("users").unwrap();
        assert_eq!(users.tag(&Tag::of_dependants(b"7")).as_bytes(), b"users#\0=7");
        assert_eq!(users.epoch_of_dependants().as_bytes(), b"users#\0");
    }
}
