//! Tags: names under which many keys are invalidated at once, in a number of steps that does not depend on
//! how many they are.
//!
//! Every tag has a random token in the shared tier. An entry carries the tokens that its load saw before it
//! began, and is valid only while all of them are still the tag's. Changing a token therefore ends every
//! entry that carries the old one, stored or still being loaded, wherever it is. A token that is missing fits
//! nothing: losing one costs loads and never revives an entry.

use std::fmt;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

#[cfg(feature = "bytes")]
mod dependants;
#[cfg(feature = "bytes")]
mod index;
#[cfg(feature = "bytes")]
pub use index::{TagIndexBackend, TagWalk};
#[cfg(feature = "bytes")]
mod token;
#[cfg(feature = "bytes")]
pub use token::{Depth, TagBackend, TagToken};

/// The name of a tag: 1 to 256 bytes of any kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<[u8]>);

impl Tag {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 256;

    /// A tag of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is empty or longer than [`MAX_LEN`](Tag::MAX_LEN).
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self> {
        let name = name.as_ref();
        if (1..=Self::MAX_LEN).contains(&name.len()) {
            // What begins with one zero byte is the cache's own.
            let escape: &[u8] = if name[0] == 0 { &[0] } else { &[] };
            return Ok(Self([escape, name].concat().into()));
        }
        let detail = format!("a tag's name is 1 to {} bytes long, not {}", Self::MAX_LEN, name.len());
        Err(Error::new(ErrorKind::Config, "naming a tag").detail(detail).key(name))
    }

    /// The tag that every entry of a cache has that can be cleared in one step. It has no name, so it is no tag
    /// that a caller can give.
    pub fn everything() -> Self {
        Self([].into())
    }

    /// Its name, after another zero byte if it begins with one; empty for [`everything`](Tag::everything).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// XXH3-64 of its name, seed 0.
    #[cfg(feature = "bytes")]
    pub fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({})", crate::error::short_key(&self.0))
    }
}

/// A set of tags, 64 at most. A clone shares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<[Tag]>>);

impl Tags {
    /// How many tags an entry may have.
    pub const MAX: usize = 64;

    /// None.
    pub const NONE: Self = Self(None);

    /// These tags, each once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if one is no [`Tag`], or there are more than [`MAX`](Tags::MAX).
    pub fn new<T: AsRef<[u8]>>(names: impl IntoIterator<Item = T>) -> Result<Self> {
        names.into_iter().map(Tag::new).collect::<Result<Vec<_>>>().and_then(Self::of)
    }

    /// One tag.
    pub fn one(tag: Tag) -> Self {
        Self(Some([tag].into()))
    }

    /// [`new`](Tags::new) of tags.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there are more than [`MAX`](Tags::MAX).
    pub fn of(mut tags: Vec<Tag>) -> Result<Self> {
        tags.sort_unstable();
        tags.dedup();
        if tags.len() > Self::MAX {
            let detail = format!("an entry has at most {} tags, not {}", Self::MAX, tags.len());
            return Err(Error::new(ErrorKind::Config, "tagging").detail(detail));
        }
        Ok(if tags.is_empty() { Self::NONE } else { Self(Some(tags.into())) })
    }

    /// These and `others`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if they are more than [`MAX`](Tags::MAX) together.
    pub fn with(&self, others: &Self) -> Result<Self> {
        match (self.is_empty(), others.is_empty()) {
            (_, true) => Ok(self.clone()),
            (true, _) => Ok(others.clone()),
            _ => Self::of(self.iter().chain(others.iter()).cloned().collect()),
        }
    }

    /// These, and [`everything`](Tag::everything), which does not count.
    #[must_use]
    pub fn and_everything(&self) -> Self {
        let all = [Tag::everything()].into_iter().chain(self.iter().cloned());
        Self(Some(all.collect()))
    }

    /// These but for `tag`.
    #[must_use]
    pub fn without(&self, tag: &Tag) -> Self {
        match self.iter().any(|it| it == tag) {
            true => Self::of(self.iter().filter(|it| *it != tag).cloned().collect()).unwrap_or_default(),
            false => self.clone(),
        }
    }

    /// Them, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Tag> {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.iter().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_a_too_long_and_one_tag_too_many_are_errors() {
        assert_eq!(Tag::new("").unwrap_err().kind(), ErrorKind::Config);
        assert!(Tag::new(vec![0xff; Tag::MAX_LEN]).is_ok());
        assert_eq!(Tag::new(vec![b'x'; Tag::MAX_LEN + 1]).unwrap_err().kind(), ErrorKind::Config);
        let names = |count: usize| (0..count).map(|n| n.to_string());
        assert_eq!(Tags::new(names(Tags::MAX)).unwrap().len(), Tags::MAX);
        assert_eq!(Tags::new(names(Tags::MAX + 1)).unwrap_err().kind(), ErrorKind::Config);
        let half = Tags::new(names(40)).unwrap();
        assert_eq!(half.with(&half).unwrap(), half);
        let others = Tags::new((40..80).map(|n| n.to_string())).unwrap();
        assert_eq!(half.with(&others).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn tags_are_a_set() {
        assert_eq!(Tags::new(["b", "a", "b"]).unwrap(), Tags::new(["a", "b"]).unwrap());
        assert!(Tags::new([""; 0]).unwrap().is_empty());
        assert_eq!(Tags::NONE.with(&Tags::new(["a"]).unwrap()).unwrap().len(), 1);
    }
}
