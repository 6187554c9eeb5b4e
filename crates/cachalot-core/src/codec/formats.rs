//! The codecs that come with the crate, each behind its feature.

use std::error::Error as StdError;
#[cfg(feature = "bincode")]
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Codec;
use super::bounded::Budget;
use crate::{Error, ErrorKind, Result};

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
        use rmp_serde::decode::Error as Cause;
        let failed = |error: Cause| match &error {
            Cause::Syntax(text) | Cause::Uncategorized(text) => decode_error("msgpack", without_values(text)),
            _ => decode_error("msgpack", error),
        };
        let mut format = rmp_serde::Deserializer::from_read_ref(bytes);
        let budget = Budget::new(bytes.len());
        let value = V::deserialize(budget.bound(&mut format)).map_err(failed)?;
        // The format does not tell where it stands, but only at the end is there no marker to read.
        match <bool as serde::Deserialize>::deserialize(&mut format) {
            Err(Cause::InvalidMarkerRead(_)) => Ok(value),
            _ => Err(decode_error("msgpack", "bytes after the value")),
        }
    }
}

/// JSON: readable by people and other languages; larger and slower. A float that is not a number becomes
/// `null` and does not come back.
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
        let failed = |error: serde_json::Error| match error.is_data() {
            true => decode_error("json", without_values(&error.to_string())),
            false => decode_error("json", error),
        };
        let mut format = serde_json::Deserializer::from_slice(bytes);
        let budget = Budget::new(bytes.len());
        let value = V::deserialize(budget.bound(&mut format)).map_err(failed)?;
        format.end().map_err(failed)?;
        Ok(value)
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
        let failed = |error: postcard::Error| decode_error("postcard", error);
        let mut format = postcard::Deserializer::from_bytes(bytes);
        let budget = Budget::new(bytes.len());
        let value = V::deserialize(budget.bound(&mut format)).map_err(failed)?;
        all_read("postcard", format.finalize().map_err(failed)?.len())?;
        Ok(value)
    }
}

/// bincode 2, without field names; declare a schema. Unmaintained upstream (RUSTSEC-2025-0141).
#[cfg(feature = "bincode")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

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
        use bincode::error::DecodeError as Cause;
        let failed = |error: Cause| match &error {
            Cause::OtherString(text) => decode_error("bincode", without_values(text)),
            _ => decode_error("bincode", error),
        };
        let config = bincode::config::standard();
        let budget = Budget::new(bytes.len());
        let seed = budget.bound(PhantomData);
        let (value, read) = bincode::serde::seed_decode_from_slice(seed, bytes, config).map_err(failed)?;
        all_read("bincode", bytes.len() - read)?;
        Ok(value)
    }
}

fn encode_error(codec: &'static str, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Encode, format!("{codec} encode")).caused_by(error)
}

fn decode_error(codec: &'static str, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Decode, format!("{codec} decode")).caused_by(error)
}

/// What serde says without what it found, since values don't belong into logs: `expected u64` of
/// `invalid type: string "secret", expected u64`.
#[cfg(any(feature = "msgpack", feature = "json", feature = "bincode"))]
fn without_values(text: &str) -> String {
    const NAMES_ONLY: [&str; 4] = ["missing field", "duplicate field", "nested in", "more elements"];
    const QUOTING: [&str; 3] = ["invalid ", "unknown variant", "unknown field"];
    let starts = |with: &[&str]| with.iter().any(|start| text.starts_with(start));
    if starts(&NAMES_ONLY) {
        return text.to_owned();
    }
    // After the last "expected" stands the type's own text; before it may stand anything.
    match text.rsplit_once(", expected ") {
        Some((_, expected)) if starts(&QUOTING) => format!("expected {expected}"),
        _ => "the type refused the value".to_owned(),
    }
}

#[cfg(any(feature = "postcard", feature = "bincode"))]
fn all_read(codec: &'static str, left: usize) -> Result<()> {
    if left == 0 { Ok(()) } else { Err(decode_error(codec, format!("{left} bytes after the value"))) }
}
