//! The wire format, byte for byte. Version 0 promises nothing, yet it must not change by accident: a change
//! here belongs into `docs/wire-format.md` and the changelog too.
#![cfg(feature = "msgpack")]
#![allow(clippy::expect_used, reason = "a test")]

use std::time::Duration;

use cachalot_core::codec::MsgPack;
use cachalot_core::envelope::{self, Header};
use cachalot_core::{Codec, Key};
use serde::{Deserialize, Serialize};

const ENVELOPE_V0: &[u8] = include_bytes!("golden/envelope-v0.bin");

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
    }
}

fn ann() -> User {
    User { id: 7, name: "Ann".to_owned() }
}

#[test]
fn version_0_is_written_as_it_always_was() {
    let bytes = envelope::encode(&key(), header(), &[], Some(&ann()), &MsgPack).expect("an envelope");
    assert_eq!(hex(&bytes), hex(ENVELOPE_V0));
}

#[test]
fn version_0_is_read_as_it_always_was() {
    let read = envelope::open(&key(), ENVELOPE_V0).expect("readable");
    assert_eq!((read.header, read.tags), (header(), Vec::new()));
    assert_eq!(Codec::<User>::decode(&MsgPack, read.value).expect("a user"), ann());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
