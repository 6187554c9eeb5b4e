//! What travels on a bus.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::error::short_key;
use crate::{Entropy, Key, Namespace};

/// One message. Its byte form is [`Message::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub publisher: PublisherId,
    /// The cache it is about. Receivers of other names ignore it.
    pub namespace: Namespace,
    /// What it says.
    pub body: Body,
}

/// One cache instance in one run of one process. Random, so that a restart, or a second cache in the same
/// process, is another publisher.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublisherId([u8; 16]);

impl PublisherId {
    /// A fresh one.
    pub fn draw(entropy: &Entropy) -> Self {
        Self(entropy.draw_128())
    }

    /// The one of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherId({:08x}…)", u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]))
    }
}

/// What a [`Message`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// These are no longer good.
    Invalidations {
        /// Its number among the publisher's invalidations, from 1, without holes.
        sequence: u64,
        /// Whether the publisher waits for an [`Ack`](Body::Ack), to be sent after all subjects are applied.
        confirm: bool,
        /// Which. At least one.
        subjects: Vec<Subject>,
    },
    /// The publisher lives.
    Heartbeat {
        /// The last number that it has sent; 0: none yet.
        last: u64,
        /// How long it stays silent at most: who hears nothing for a few times as long must assume that it is
        /// gone, and that its last words were lost. Whole milliseconds, up to some 49 days.
        every: Duration,
        /// Whether the publisher waits for an [`Ack`](Body::Ack) of `last`.
        confirm: bool,
    },
    /// The publisher ends, on purpose.
    Goodbye {
        /// The last number that it has sent; 0: none at all.
        last: u64,
    },
    /// The sender has applied all that `of` has sent up to this number, or has given up all that it held.
    Ack {
        /// Whose invalidations.
        of: PublisherId,
        /// Up to which number.
        up_to: u64,
    },
    /// The leases of these keys have ended: who waits for one may look again. Without a number, and may be
    /// lost: a waiter has a deadline of its own. Never carries the value.
    LeasesEnded {
        /// Which. At least one.
        keys: Vec<Key>,
    },
}

/// What an invalidation is about. `pending`: the shared tier has not taken it yet; receivers bypass the
/// shared tier for it until a second message, or for a bounded time.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// The value of this key.
    Key {
        /// The key, its namespace included.
        key: Key,
        /// Whether the shared tier still holds the old value.
        pending: bool,
    },
    /// All values with this tag.
    Tag {
        /// The tag's name.
        tag: Bytes,
        /// Whether the shared tier still holds the tag's old token.
        pending: bool,
    },
    /// All values whose keys match.
    Pattern {
        /// The pattern, as the publisher's caller wrote it.
        pattern: Bytes,
        /// Whether the shared tier still holds old values.
        pending: bool,
    },
    /// All values of the namespace.
    Clear {
        /// Whether the shared tier still holds old values.
        pending: bool,
    },
}

impl Subject {
    /// Whether the shared tier has not taken it yet.
    pub fn is_pending(&self) -> bool {
        match self {
            Self::Key { pending, .. }
            | Self::Tag { pending, .. }
            | Self::Pattern { pending, .. }
            | Self::Clear { pending } => *pending,
        }
    }

    /// The bytes of its name: of the key, the tag or the pattern; empty for a clear.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Key { key, .. } => key.as_bytes(),
            Self::Tag { tag, .. } => tag,
            Self::Pattern { pattern, .. } => pattern,
            Self::Clear { .. } => &[],
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Key { .. } => "Key",
            Self::Tag { .. } => "Tag",
            Self::Pattern { .. } => "Pattern",
            Self::Clear { .. } => "Clear",
        };
        write!(f, "{kind}({}", short_key(self.name()))?;
        f.write_str(if self.is_pending() { ", pending)" } else { ")" })
    }
}
