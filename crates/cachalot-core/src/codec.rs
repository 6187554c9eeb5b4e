//! Values to bytes and back.
//!
//! The bytes come from a shared tier and may be anything. The codecs of this crate hold, whatever they are
//! given: decoding ends; it allocates in proportion to the input and not to what the input claims; it nests
//! at most 128 levels deep (structs, enums, options and containers each count one); and it fails rather than
//! leave bytes unread. A value that is nested more deeply, or holds more than 65,536 elements without a byte
//! of their own (`Vec<()>`), is therefore written and never read.
//!
//! Errors name fields and types, and never quote the value.

use std::fmt;

use crate::Result;

/// Turns values into bytes and back. The bytes come from a shared tier and may be anything: decoding must
/// end, allocate in proportion to the input, and fail rather than guess.
pub trait Codec<V>: fmt::Debug + Send + Sync + 'static {
    /// Names the format in the envelope; another id is a miss. 1 to 15 are this crate's, 128 to 255 for
    /// your own.
    fn id(&self) -> u8;

    /// Whether moved or retyped fields would decode to garbage, so that a cache must declare a schema.
    fn needs_schema(&self) -> bool;

    /// Appends the bytes of `value` to `out`. After an error `out` may hold anything.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode).
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()>;

    /// The value of `bytes`, all of them.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode).
    fn decode(&self, bytes: &[u8]) -> Result<V>;
}

#[cfg(any(feature = "msgpack", feature = "json", feature = "postcard", feature = "bincode"))]
mod formats;
#[cfg(feature = "bincode")]
pub use formats::Bincode;
#[cfg(feature = "json")]
pub use formats::Json;
#[cfg(feature = "msgpack")]
pub use formats::MsgPack;
#[cfg(feature = "postcard")]
pub use formats::Postcard;

#[cfg(any(feature = "msgpack", feature = "json", feature = "postcard", feature = "bincode"))]
mod bounded;

#[cfg(test)]
#[cfg(all(feature = "msgpack", feature = "json", feature = "postcard", feature = "bincode"))]
mod tests;
