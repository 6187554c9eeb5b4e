//! The byte form of messages, version 1: readable for ever, and written as it always was. A change here
//! belongs into `docs/wire-format.md` and the changelog too.
#![cfg(feature = "bytes")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use bytes::Bytes;
use cachalot_core::{Body, Key, Message, Namespace, PublisherId, Subject};

fn golden() -> [(&'static [u8], Body); 5] {
    let key = |text: &'static str| Key::new(text);
    let subjects = vec![
        Subject::Key { key: key("users:7"), pending: false },
        Subject::Tag { tag: "vip".into(), pending: true },
        Subject::Pattern { pattern: "users:1*".into(), pending: false },
        Subject::Clear { pending: false },
    ];
    [
        (
            include_bytes!("golden/bus-invalidations-v1.bin"),
            Body::Invalidations { sequence: 0x0102_0304, confirm: true, subjects },
        ),
        (
            include_bytes!("golden/bus-heartbeat-v1.bin"),
            Body::Heartbeat { last: 42, every: Duration::from_secs(2), confirm: false },
        ),
        (include_bytes!("golden/bus-goodbye-v1.bin"), Body::Goodbye { last: 42 }),
        (
            include_bytes!("golden/bus-ack-v1.bin"),
            Body::Ack { of: PublisherId::from_bytes([0xbb; 16]), up_to: 42 },
        ),
        (
            include_bytes!("golden/bus-leases-ended-v1.bin"),
            Body::LeasesEnded { keys: vec![key("users:7"), key("users:8")] },
        ),
    ]
}

fn message(body: Body) -> Message {
    let namespace = Namespace::new("users").unwrap();
    Message { publisher: PublisherId::from_bytes([0xaa; 16]), namespace, body }
}

#[test]
fn version_1_is_written_as_it_always_was() {
    for (bytes, body) in golden() {
        let sent = message(body);
        assert_eq!(hex(&sent.encode().unwrap()), hex(bytes), "{sent:?}");
    }
}

#[test]
fn version_1_is_read_as_it_always_was() {
    for (bytes, body) in golden() {
        assert_eq!(Message::decode(Bytes::from_static(bytes)).unwrap(), message(body));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
