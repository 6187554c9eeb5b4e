//! The tags of an envelope: how many, then each with its length, its name and its token.

use crate::{Error, ErrorKind, Result, Tag, TagToken};

/// A tag, and what it stood at before the load began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// The tag.
    pub tag: Tag,
    /// Its token then.
    pub token: TagToken,
}

/// Appends `tags`; nothing if there are none.
pub(super) fn write(tags: &[Tagged], out: &mut Vec<u8>) -> Result<()> {
    if tags.is_empty() {
        return Ok(());
    }
    let too_many = |_| Error::new(ErrorKind::Encode, "envelope").detail("more than 255 tags");
    out.push(u8::try_from(tags.len()).map_err(too_many)?);
    for Tagged { tag, token } in tags {
        let name = tag.as_bytes();
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(&token.to_bytes());
    }
    Ok(())
}

/// The tags at the start of `bytes`, and the rest. `None` if there are none, or their end is missing.
pub(super) fn read(bytes: &[u8]) -> Option<(Vec<Tagged>, &[u8])> {
    let (count, mut rest) = bytes.split_first()?;
    let mut tags = Vec::with_capacity(usize::from(*count));
    for _ in 0..*count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (token, after) = after.split_at_checked(TagToken::LEN)?;
        let tag = if name.is_empty() { Tag::everything() } else { Tag::from_wire(name)? };
        tags.push(Tagged { tag, token: TagToken::from_bytes(token)? });
        rest = after;
    }
    (!tags.is_empty()).then_some((tags, rest))
}
