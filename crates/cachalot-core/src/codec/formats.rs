//! The codecs that come with the crate, each behind its feature.

use std::error::Error as StdError;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Codec;
use crate::{Error, ErrorKind, Result};

fn encode_error(codec: &'static str, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Encode, format!("{codec} encode")).caused_by(error)
}

fn decode_error(codec: &'static str, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Decode, format!("{codec} decode")).caused_by(error)
}

#[cfg(any(feature = "msgpack", feature = "postcard", feature = "bincode"))]
fn all_read(codec: &'static str, left: usize) -> Result<()> {
    if left == 0 {
        Ok(())
    } else {
        Err(decode_error(codec, format!("{left} bytes too many")))
    }
}

/// MessagePack with field names, the default: survives added, removed and reordered fields.
#[cfg(feature = "msgpack")]
#[derive(Clone, Copy, Debug, Default)]
pub struct MsgPack;

#[cfg(feature = "msgpack")]
impl<V: Serialize + DeserializeOwned> Codec<V> for MsgPack {
    fn id(&self) -> u8 {
        1
    }

    fn needs_schema(&self) -> bool {
        false
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        rmp_serde::encode::write_named(out, value).map_err(|error| encode_error("msgpack", error))
    }

    fn decode(&self, bytes: &[u8]) -> Result<V> {
        let mut left = bytes;
        let value = rmp_serde::from_read(&mut left).map_err(|error| decode_error("msgpack", error))?;
        all_read("msgpack", left.len())?;
        Ok(value)
    }
}

/// JSON: readable by people and other languages; larger and slower.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        2
    }

    fn needs_schema(&self) -> bool {
        false
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        serde_json::to_writer(out, value).map_err(|error| encode_error("json", error))
    }

    fn decode(&self, bytes: &[u8]) -> Result<V> {
        serde_json::from_slice(bytes).map_err(|error| decode_error("json", error))
    }
}

/// postcard: small and quick, without field names; declare a schema.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        3
    }

    fn needs_schema(&self) -> bool {
        true
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        let bytes = std::mem::take(out);
        *out = postcard::to_extend(value, bytes).map_err(|error| encode_error("postcard", error))?;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<V> {
        let (value, left) =
            postcard::take_from_bytes(bytes).map_err(|error| decode_error("postcard", error))?;
        all_read("postcard", left.len())?;
        Ok(value)
    }
}

/// bincode 2, without field names; declare a schema. Unmaintained upstream (RUSTSEC-2025-0141), always
/// decoded with a limit of 256 MiB on what it may allocate.
#[cfg(feature = "bincode")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

#[cfg(feature = "bincode")]
const BINCODE_LIMIT: usize = 256 << 20;

#[cfg(feature = "bincode")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Bincode {
    fn id(&self) -> u8 {
        4
    }

    fn needs_schema(&self) -> bool {
        true
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        let config = bincode::config::standard();
        bincode::serde::encode_into_std_write(value, out, config)
            .map(drop)
            .map_err(|error| encode_error("bincode", error))
    }

    fn decode(&self, bytes: &[u8]) -> Result<V> {
        let config = bincode::config::standard().with_limit::<BINCODE_LIMIT>();
        let (value, read) = bincode::serde::decode_from_slice(bytes, config)
            .map_err(|error| decode_error("bincode", error))?;
        all_read("bincode", bytes.len() - read)?;
        Ok(value)
    }
}
