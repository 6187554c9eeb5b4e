//! Any bytes as an envelope are a miss; any header and value come back; any damage to them is a miss.
#![no_main]

use std::time::Duration;

use cachalot_core::envelope::{self, Header, Tagged};
use cachalot_core::{Codec, Entropy, Key, Result, Tag, TagToken};
use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

#[derive(Debug)]
struct Raw(u8);

impl Codec<Vec<u8>> for Raw {
    fn id(&self) -> u8 {
        self.0
    }

    fn needs_schema(&self) -> bool {
        false
    }

    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(bytes.to_vec())
    }
}

type Input<'a> = (Header, Option<Vec<u8>>, usize, u8, &'a [u8]);

fuzz_target!(|bytes: &[u8]| {
    let key = Key::new("users:7");
    // The chance that a checksum fits by itself is one in 2^64.
    assert!(envelope::open(&key, bytes).is_err());
    sealed_by_hand(&key, bytes);
    let Some((header, value, at, flip, rest)) = input(bytes) else {
        return;
    };
    let codec = Raw(header.codec);
    let tags = tags(rest, usize::from(flip % 5));
    let sealed = envelope::encode(&key, header, &tags, value.as_ref(), &codec).expect("an envelope");
    let read = envelope::open(&key, &sealed).expect("what was encoded");
    assert_eq!((read.header, read.tags), (header, tags));
    assert_eq!(read.value, value.as_deref().unwrap_or_default());
    assert!(envelope::open(&Key::new(rest.to_vec()), &sealed).is_err() || rest == b"users:7");

    let mut damaged = sealed.to_vec();
    let at = at % damaged.len();
    damaged[at] ^= flip;
    assert_eq!(envelope::open(&key, &damaged).is_ok(), flip == 0);
    assert!(envelope::open(&key, &sealed[..at]).is_err());
});

/// What somebody wrote with a checksum that fits is a miss too, or says what is there and nothing else would.
fn sealed_by_hand(key: &Key, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 40 {
        return;
    }
    (bytes[0], bytes[3]) = (1, 0);
    let value_sum = xxh3_64(&bytes[40..]);
    bytes[32..40].copy_from_slice(&value_sum.to_le_bytes());
    let sum = xxh3_64_with_seed(&bytes[..40], key.fingerprint());
    bytes[32..40].copy_from_slice(&sum.to_le_bytes());
    if let Ok(read) = envelope::open(key, &bytes) {
        let value = (!read.header.negative).then(|| read.value.to_vec());
        let again = envelope::encode(key, read.header, &read.tags, value.as_ref(), &Raw(read.header.codec));
        assert_eq!(again.expect("an envelope"), bytes);
    }
}

fn input(bytes: &[u8]) -> Option<Input<'_>> {
    let (numbers, rest) = bytes.split_first_chunk::<41>()?;
    let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap_or_default());
    let negative = numbers[31] & 1 == 1;
    let header = Header {
        codec: numbers[30],
        schema: u32::from_le_bytes([numbers[24], numbers[25], numbers[26], numbers[27]]),
        negative,
        fresh_for: millis(number(0)),
        kept_for: millis(number(8)),
        compute_time: Duration::from_micros(number(16)),
        // Half of them have none.
        version: if numbers[40] & 1 == 1 { number(32) } else { 0 },
    };
    let at = usize::from(numbers[28]) * 7 + usize::from(numbers[29]);
    Some((header, (!negative).then(|| rest.to_vec()), at, numbers[29], rest))
}

/// So many tags, named by pieces of `bytes`.
fn tags(bytes: &[u8], count: usize) -> Vec<Tagged> {
    let names = bytes.chunks(1 + bytes.len() / 7).take(count);
    let tags = names.filter_map(|name| Tag::new(name).ok());
    tags.map(|tag| Tagged { tag, token: TagToken::draw(&Entropy::seeded(bytes.len() as u64)) }).collect()
}

/// As on the wire: all ones stand for "for ever".
fn millis(millis: u64) -> Duration {
    if millis == u64::MAX { Duration::MAX } else { Duration::from_millis(millis) }
}
