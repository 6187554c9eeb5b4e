//! A value as it lies there, and the envelope that the cache makes of it and asks for.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::envelope::{self, Header, Tagged};
use cachalot_core::{Codec, Error, ErrorKind, Key, Nonce, Put, Record, Result};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{EVER_MS, PlainForm, duration};

/// The id of the cache's JSON codec, the only one whose values lie there.
pub(super) const JSON: u8 = 2;
/// No codec's id: what bears it is a miss, and counted.
const UNREADABLE: u8 = 0;

/// What the bytes under a key are.
#[derive(Debug, PartialEq)]
enum Reading<'a> {
    /// A value and nothing else, or no JSON at all: who decodes it finds out.
    Bare,
    /// A value in a wrapper: until when it is fresh, unix seconds, and what its load cost.
    Wrapped { value: &'a [u8], until: f64, delta: f64 },
    /// It has the members of a wrapper, and is none: neither is it anybody's value.
    Unreadable,
}

/// The record of `bytes`, which live for `left_ms` more at the server's time `now_ms`. Larger ones than `most` are
/// unreadable.
pub(super) fn record(key: &Key, bytes: Vec<u8>, left_ms: u64, now_ms: u64, most: usize) -> Result<Record> {
    let nonce = nonce(&bytes);
    let bytes = Bytes::from(bytes);
    let left = duration(left_ms);
    let bare = |codec, value| (times(codec, left, left, Duration::ZERO), value, Duration::ZERO);
    let reading = if bytes.len() > most { Reading::Unreadable } else { read(&bytes) };
    let (header, value, age) = match reading {
        Reading::Bare => bare(JSON, bytes.clone()),
        Reading::Unreadable => bare(UNREADABLE, Bytes::new()),
        Reading::Wrapped { value, until, delta } => {
            let until_ms = (until * 1000.0).clamp(0.0, EVER_MS as f64) as u64;
            // When it was stored is not known. One that is stale has been so since it was no longer fresh.
            let age = Duration::from_millis(now_ms.saturating_sub(until_ms));
            let fresh_for = duration(until_ms.saturating_sub(now_ms)).min(left);
            let delta = Duration::from_secs_f64(delta.clamp(0.0, 1e9));
            (times(JSON, fresh_for, left.saturating_add(age), delta), bytes.slice_ref(value), age)
        }
    };
    let payload = envelope::encode(key, header, &[], Some(&value), &Verbatim(header.codec))?;
    Ok(Record { payload, nonce, age, invalidated: false })
}

fn times(codec: u8, fresh_for: Duration, kept_for: Duration, compute_time: Duration) -> Header {
    Header { codec, schema: 0, negative: false, fresh_for, kept_for, compute_time, version: 0 }
}

/// Names what lies there by what it is: nothing lies beside it that could.
fn nonce(bytes: &[u8]) -> Nonce {
    let digest = sha1_smol::Sha1::from(bytes).digest().bytes();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    Nonce::from_bytes(half)
}

fn read(bytes: &[u8]) -> Reading<'_> {
    let start = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if start != Some(&b'{') {
        return Reading::Bare;
    }
    // What is no JSON is left to who decodes it, and says why.
    let Ok(Members { value, expiry, delta, fresh, others }) = serde_json::from_slice(bytes) else {
        return Reading::Bare;
    };
    if value.is_empty() || expiry.is_empty() && fresh.is_empty() {
        return Reading::Bare;
    }
    let number = |raw: &RawValue| raw.get().parse::<f64>().ok().filter(|number| number.is_finite());
    let wrapped = match (&value[..], &expiry[..], &delta[..], &fresh[..]) {
        ([value], [until], [delta], []) => Some((value, number(until), number(delta))),
        ([value], [], [], [until]) => Some((value, number(until), Some(0.0))),
        _ => None,
    };
    match wrapped {
        Some((value, Some(until), Some(delta))) if others == 0 => {
            Reading::Wrapped { value: value.get().as_bytes(), until, delta }
        }
        _ => Reading::Unreadable,
    }
}

/// The members of an object that matter here, each as often as it comes.
#[derive(Default)]
struct Members<'a> {
    value: Vec<&'a RawValue>,
    expiry: Vec<&'a RawValue>,
    delta: Vec<&'a RawValue>,
    fresh: Vec<&'a RawValue>,
    others: usize,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        format.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let place = match &*name {
                "value" => &mut members.value,
                "_expiry" => &mut members.expiry,
                "_delta" => &mut members.delta,
                "_fresh" => &mut members.fresh,
                _ => {
                    members.others += 1;
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // A second one is one too many; a thousand are no more than that.
            let value = map.next_value()?;
            if place.len() < 2 {
                place.push(value);
            }
        }
        Ok(members)
    }
}

/// What a put is to become.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) tags: Vec<Tagged>,
    pub(super) json: Bytes,
    pub(super) ttl: Duration,
    pub(super) fresh_for: Duration,
    pub(super) compute_time: Duration,
}

/// Takes the envelope of `put` apart.
pub(super) fn writing(operation: &'static str, key: &Key, put: &Put, form: PlainForm) -> Result<Writing> {
    let refused = |detail| Error::new(ErrorKind::Config, operation).detail(detail).key(key.as_bytes());
    let envelope::Opened { header, tags, value } = envelope::open(key, &put.payload)?;
    if header.codec != JSON {
        return Err(refused("the layout `plain` stores JSON: build the cache with `codec(Json)`"));
    }
    if header.schema != 0 {
        return Err(refused("the layout `plain` cannot say which schema a value has"));
    }
    if header.version != 0 {
        return Err(refused("the layout `plain` cannot say which version a value is: use versioned keys"));
    }
    if header.negative {
        return Err(refused("the layout `plain` cannot say that something is absent"));
    }
    if form == PlainForm::Bare && read(value) != Reading::Bare {
        return Err(refused("a bare value with these members would be read as one in a wrapper"));
    }
    let ttl = match form {
        // Whoever finds it takes it for fresh.
        PlainForm::Bare => put.ttl.min(header.fresh_for),
        PlainForm::Early | PlainForm::Stale => put.ttl,
    };
    let json = put.payload.slice_ref(value);
    Ok(Writing { tags, json, ttl, fresh_for: header.fresh_for, compute_time: header.compute_time })
}

/// Bytes that are a value already, of the codec with this id.
#[derive(Debug)]
struct Verbatim(u8);

impl Codec<Bytes> for Verbatim {
    fn id(&self) -> u8 {
        self.0
    }

    fn needs_schema(&self) -> bool {
        false
    }

    fn encode(&self, value: &Bytes, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

#[cfg(test)]
mod tests;
