//! A few bytes that claim to be terabytes: a miss, at the price of a few bytes. Counted by the allocator.
#![cfg(all(feature = "msgpack", feature = "json", feature = "postcard", feature = "bincode"))]
#![allow(clippy::expect_used, reason = "a test")]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::codec::{Bincode, Json, MsgPack, Postcard};
use cachalot_core::envelope::{self, Header};
use cachalot_core::{Codec, ErrorKind, Key};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    lines: Vec<Line>,
    notes: HashMap<String, Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    article: String,
    amounts: [u64; 4],
}

#[derive(Debug, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Debug, Serialize, Deserialize)]
enum Choice {
    Text(String),
    Many { numbers: Vec<u64> },
}

/// Carries any bytes in an envelope that says they are of another codec.
#[derive(Debug)]
struct Planted(u8);

impl Codec<Vec<u8>> for Planted {
    fn id(&self) -> u8 {
        self.0
    }

    fn needs_schema(&self) -> bool {
        false
    }

    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> cachalot_core::Result<()> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> cachalot_core::Result<Vec<u8>> {
        Ok(bytes.to_vec())
    }
}

/// Reads `bomb` from an envelope whose checksum fits. What it allocates is in proportion to the input: the
/// widest element here, in a hash table with room to spare, and the error.
fn is_cheap<V: 'static>(codec: &dyn Codec<V>, bomb: &Bomb) {
    let key = Key::new("orders:1");
    let header = Header {
        codec: 0,
        schema: 0,
        negative: false,
        fresh_for: Duration::from_secs(60),
        kept_for: Duration::from_secs(60),
        compute_time: Duration::ZERO,
        version: 0,
    };
    let planted = envelope::encode(&key, header, &[], Some(&bomb.bytes), &Planted(codec.id()));
    let sealed: Bytes = planted.expect("an envelope");
    let value = envelope::open(&key, &sealed).expect("the envelope is whole").value;
    let mut read = None;
    let allocated = allocation_counter::measure(|| read = Some(codec.decode(value).map(drop))).bytes_total;
    let read = read.expect("the decoder has run");
    assert!(bomb.may_be_a_value || read.is_err(), "{codec:?} decoded {bomb:x?}");
    if let Err(error) = read {
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
    let bound = 256 * bomb.bytes.len() as u64 + 2048;
    assert!(allocated <= bound, "{codec:?} allocated {allocated} for {bomb:x?}");
}

fn under_each_type<C>(codec: &C, bomb: &Bomb)
where
    C: Codec<Vec<u64>> + Codec<String> + Codec<Vec<u8>> + Codec<HashMap<String, u64>>,
    C: Codec<HashSet<u64>> + Codec<BTreeMap<u64, String>> + Codec<VecDeque<Line>>,
    C: Codec<Vec<Vec<Vec<u64>>>> + Codec<Order> + Codec<Tree> + Codec<Choice> + Codec<Option<Box<str>>>,
{
    is_cheap::<Vec<u64>>(codec, bomb);
    is_cheap::<String>(codec, bomb);
    is_cheap::<Vec<u8>>(codec, bomb);
    is_cheap::<HashMap<String, u64>>(codec, bomb);
    is_cheap::<HashSet<u64>>(codec, bomb);
    is_cheap::<BTreeMap<u64, String>>(codec, bomb);
    is_cheap::<VecDeque<Line>>(codec, bomb);
    is_cheap::<Vec<Vec<Vec<u64>>>>(codec, bomb);
    is_cheap::<Order>(codec, bomb);
    is_cheap::<Tree>(codec, bomb);
    is_cheap::<Choice>(codec, bomb);
    is_cheap::<Option<Box<str>>>(codec, bomb);
}

#[derive(Debug)]
struct Bomb {
    bytes: Vec<u8>,
    may_be_a_value: bool,
}

/// Claims of a length, each as the format writes it, alone, behind bytes that open a value, and repeated
/// so that each level of nesting claims it anew.
fn bombs(claims: &[&[u8]], openings: &[&[u8]]) -> Vec<Bomb> {
    let mut bombs = Vec::new();
    let mut add = |bytes, may_be_a_value| bombs.push(Bomb { bytes, may_be_a_value });
    for claim in claims {
        add(claim.to_vec(), false);
        add([claim, &[0; 9][claim.len().min(9)..]].concat(), false);
        add(claim.repeat(200), false);
        for opening in openings {
            let opened = [opening, *claim].concat();
            add(opened.repeat(100), true);
            add(opened, true);
        }
    }
    bombs
}

#[test]
fn nine_bytes_do_not_allocate_a_terabyte() {
    let msgpack: [&[u8]; 9] = [
        b"\xdd\xff\xff\xff\xff",     // an array
        b"\xdf\xff\xff\xff\xff",     // a map
        b"\xdb\xff\xff\xff\xff",     // a text
        b"\xc6\xff\xff\xff\xff",     // bytes
        b"\xc9\xff\xff\xff\xff\x01", // an extension
        b"\xdd\x0c\x80\x00\x00",     // 200 MiB of each
        b"\xdb\x0c\x80\x00\x00",
        b"\xc6\x0c\x80\x00\x00",
        b"\xdc\xff\xff", // a short array, claimed again at each level
    ];
    for bomb in bombs(&msgpack, &[b"\x92", b"\x82\xa5lines", b"\x81\xa4Text", b"\x81\xa4Many\x91", b"\xa1a"])
    {
        under_each_type(&MsgPack, &bomb);
    }
    let postcard: [&[u8]; 4] = [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", // 2^63 - 1
        b"\x80\x80\x80\x80\x80\x20",             // 1 TiB
        b"\x80\x80\x80\x64",                     // 200 MiB
        b"\xff\xff\x7f",                         // 2 MiB
    ];
    for bomb in bombs(&postcard, &[b"\x00", b"\x01", b"\x02\x01a"]) {
        under_each_type(&Postcard, &bomb);
    }
    let bincode: [&[u8]; 5] = [
        b"\xfd\x00\x00\x00\x00\x00\x01\x00\x00", // 1 TiB
        b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f", // 2^63 - 1
        b"\xfc\x00\x00\x80\x0c",                 // 200 MiB
        b"\xfb\xff\xff",                         // 64 KiB
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for bomb in bombs(&bincode, &[b"\x00", b"\x01", b"\x02\x01a"]) {
        under_each_type(&Bincode, &bomb);
    }
    let json: [&[u8]; 5] =
        [b"[[[[[[[[[", b"[1e999999", b"\"\\ud800\\u", b"{\"a\":{\"a", b"999999999999999999999999999"];
    for bomb in bombs(&json, &[b"[", b"{\"lines\":", b"{\"Many\":{\"numbers\":"]) {
        under_each_type(&Json, &bomb);
    }
}
