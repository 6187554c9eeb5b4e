//! The wire format, byte for byte. Version 1 is frozen: its files never change. What one of these tests refuses
//! is another version.
#![cfg(feature = "msgpack")]
#![allow(clippy::expect_used, reason = "a test")]

use std::time::Duration;

use cachalot_core::codec::MsgPack;
use cachalot_core::envelope::{self, Header, Tagged};
use cachalot_core::{Codec, ErrorKind, Key, Nonce, Tag, TagToken};
use serde::{Deserialize, Serialize};

const V0: &[u8] = include_bytes!("golden/envelope-v0.bin");
const PLAIN: &[u8] = include_bytes!("golden/envelope-v1.bin");
const TAGGED: &[u8] = include_bytes!("golden/envelope-v1-tagged.bin");
const VERSIONED: &[u8] = include_bytes!("golden/envelope-v1-versioned.bin");
const NEGATIVE: &[u8] = include_bytes!("golden/envelope-v1-negative.bin");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

fn key() -> Key {
    Key::new("users:7")
}

fn header() -> Header {
    Header {
        codec: 1,
        schema: 0x0102_0304,
        negative: false,
        fresh_for: Duration::from_secs(300),
        kept_for: Duration::MAX,
        compute_time: Duration::from_micros(12_345),
        version: 0,
    }
}

fn ann() -> User {
    User { id: 7, name: "Ann".to_owned() }
}

/// One of a name, and the nameless one of everything.
fn tags() -> Vec<Tagged> {
    let token = |removed: u8, expired: u8| TagToken {
        removed: Nonce::from_bytes([removed; 16]),
        expired: Nonce::from_bytes([expired; 16]),
    };
    vec![
        Tagged { tag: Tag::everything(), token: token(0x11, 0x22) },
        Tagged { tag: Tag::new("vip").expect("a tag"), token: token(0x33, 0x44) },
    ]
}

const VERSION: u64 = 0x0102_0304_0506_0708;

/// A file, and what is in it.
type Golden = (&'static [u8], Header, Vec<Tagged>, Option<User>);

fn golden() -> [Golden; 4] {
    let versioned = Header { version: VERSION, ..header() };
    let negative = Header { negative: true, fresh_for: Duration::from_secs(30), ..header() };
    [
        (PLAIN, header(), Vec::new(), Some(ann())),
        (TAGGED, header(), tags(), Some(ann())),
        (VERSIONED, versioned, tags(), Some(ann())),
        (NEGATIVE, negative, Vec::new(), None),
    ]
}

#[test]
fn version_1_is_written_as_it_always_was() {
    for (file, header, tags, value) in golden() {
        let bytes = envelope::encode(&key(), header, &tags, value.as_ref(), &MsgPack).expect("an envelope");
        assert_eq!(hex(&bytes), hex(file));
    }
}

#[test]
fn version_1_is_read_as_it_always_was() {
    for (file, header, tags, value) in golden() {
        let read = envelope::open(&key(), file).expect("readable");
        assert_eq!((read.header, read.tags), (header, tags));
        match value {
            Some(value) => {
                assert_eq!(Codec::<User>::decode(&MsgPack, read.value).expect("a user"), value);
            }
            None => assert!(read.value.is_empty()),
        }
    }
}

#[test]
fn version_0_which_promised_nothing_is_a_miss() {
    let error = envelope::open(&key(), V0).expect_err("another format");
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("another format"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
