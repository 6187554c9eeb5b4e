//! Any bytes as an envelope are a miss; any header and value come back; any damage to them is a miss.
#![no_main]

use std::time::Duration;

use cachalot_core::envelope::{self, Header, Tagged};
use cachalot_core::{Codec, Entropy, Key, Result, Tag, TagToken};
use libfuzzer_sys::fuzz_target;

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

fn input(bytes: &[u8]) -> Option<Input<'_>> {
    let (numbers, rest) = bytes.split_first_chunk::<32>()?;
    let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap_or_default());
    let negative = numbers[31] & 1 == 1;
    let header = Header {
        codec: numbers[30],
        schema: u32::from_le_bytes([numbers[24], numbers[25], numbers[26], numbers[27]]),
        negative,
        fresh_for: millis(number(0)),
        kept_for: millis(number(8)),
        compute_time: Duration::from_micros(number(16)),
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
