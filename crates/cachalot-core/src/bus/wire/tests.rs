//! Round trips, and what must not be readable.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn message(body: Body) -> Message {
    let namespace = Namespace::new("users").unwrap();
    Message { publisher: PublisherId::from_bytes([7; 16]), namespace, body }
}

fn keys(count: usize) -> Body {
    let subject = |n: usize| Subject::Key { key: Key::new(n.to_string()), pending: false };
    Body::Invalidations { sequence: 1, confirm: false, subjects: (0..count).map(subject).collect() }
}

/// `bytes` after `change`, with a checksum that fits: what a newer release or somebody hostile would send.
fn forged(message: &Message, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = message.encode().unwrap().to_vec();
    change(&mut bytes);
    let sum = checksum(&bytes).to_le_bytes();
    bytes[4..12].copy_from_slice(&sum);
    bytes.into()
}

fn detail(bytes: Bytes) -> String {
    let error = Message::decode(bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    error.to_string()
}

/// Where the body of [`message`] begins.
const BODY: usize = HEADER + 1 + 5;

fn name() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn subject() -> impl Strategy<Value = Subject> {
    (0..4, name(), any::<bool>()).prop_map(|(kind, name, pending)| match kind {
        0 => Subject::Key { key: Key::new(name), pending },
        1 => Subject::Tag { tag: name, pending },
        2 => Subject::Pattern { pattern: name, pending },
        _ => Subject::Clear { pending },
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (1u64.., any::<bool>(), vec(subject(), 1..20))
            .prop_map(|(sequence, confirm, subjects)| Body::Invalidations { sequence, confirm, subjects }),
        (any::<u64>(), any::<u32>(), any::<bool>()).prop_map(|(last, every, confirm)| {
            Body::Heartbeat { last, every: Duration::from_millis(every.into()), confirm }
        }),
        any::<u64>().prop_map(|last| Body::Goodbye { last }),
        (any::<[u8; 16]>(), any::<u64>())
            .prop_map(|(of, up_to)| Body::Ack { of: PublisherId::from_bytes(of), up_to }),
        vec(name(), 1..20)
            .prop_map(|keys| Body::LeasesEnded { keys: keys.into_iter().map(Key::new).collect() }),
    ]
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(
        publisher: [u8; 16], namespace in "[a-zA-Z0-9_./-]{1,64}", body in body(),
    ) {
        let namespace = Namespace::new(&namespace).unwrap();
        let sent = Message { publisher: PublisherId::from_bytes(publisher), namespace, body };
        let bytes = sent.encode().unwrap();
        prop_assert_eq!(bytes.len(), sent.size());
        prop_assert_eq!(Message::decode(bytes).unwrap(), sent);
    }

    #[test]
    fn damage_is_noticed(body in body(), at: prop::sample::Index, flip in 1u8..) {
        let mut bytes = message(body).encode().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Message::decode(bytes.clone().into()).is_err());
        bytes.truncate(at);
        prop_assert!(Message::decode(bytes.into()).is_err());
    }

    #[test]
    fn any_bytes_with_a_checksum_that_fits_are_read_or_refused(kind in 0u8..8, rest in vec(any::<u8>(), 0..80)) {
        let bytes = forged(&message(keys(1)), |bytes| {
            bytes[3] = kind;
            bytes.truncate(BODY);
            bytes.extend_from_slice(&rest);
        });
        if let Ok(read) = Message::decode(bytes.clone()) {
            prop_assert_eq!(read.encode().unwrap(), bytes, "there is one byte form of a message");
        }
    }
}

#[test]
fn a_newer_version_kind_or_flag_is_refused() {
    let heartbeat = message(Body::Heartbeat { last: 3, every: Duration::from_secs(1), confirm: false });
    let text = detail(forged(&heartbeat, |bytes| bytes[2] = 2));
    assert!(text.contains("another version"), "{text}");
    assert!(detail(forged(&heartbeat, |bytes| bytes[3] = 99)).contains("unknown kind"));
    assert!(detail(forged(&heartbeat, |bytes| bytes[BODY + 12] = 2)).contains("unknown flags"));
    let text = detail(forged(&message(keys(1)), |bytes| bytes[BODY + 11] = 5));
    assert!(text.contains("unknown subject"), "{text}");
    assert!(detail(forged(&heartbeat, |bytes| bytes.push(0))).contains("too long"));
    assert!(detail(Bytes::from_static(b"{\"key\": \"users:7\"}")).contains("not a message"));
    assert!(detail(Bytes::new()).contains("too short"));
}

#[test]
fn claimed_numbers_beyond_what_is_there_are_refused() {
    let text = detail(forged(&message(keys(1)), |bytes| bytes[BODY + 9..BODY + 11].fill(0xff)));
    assert!(text.contains("no such number"), "{text}");
    let text = detail(forged(&message(keys(1)), |bytes| bytes[BODY + 12..BODY + 16].fill(0xff)));
    assert!(text.contains("too short"), "{text}");
    let text = detail(forged(&message(keys(1)), |bytes| bytes[BODY..BODY + 8].fill(0)));
    assert!(text.contains("start at 1"), "{text}");
    assert!(detail(vec![b'x'; Message::MAX_BYTES + 1].into()).contains("more than 1 MiB"));
}

#[test]
fn what_is_out_of_bounds_is_not_sent() {
    let refused = |body: Body| assert_eq!(message(body).encode().unwrap_err().kind(), ErrorKind::Config);
    refused(keys(0));
    refused(keys(Message::MAX_NAMES + 1));
    refused(Body::LeasesEnded { keys: Vec::new() });
    refused(Body::LeasesEnded { keys: vec![Key::new(vec![b'k'; Message::MAX_BYTES])] });
    refused(Body::Invalidations {
        sequence: 0,
        confirm: false,
        subjects: vec![Subject::Clear { pending: false }],
    });
    let most = message(keys(Message::MAX_NAMES));
    assert_eq!(Message::decode(most.encode().unwrap()).unwrap(), most);
}

#[test]
fn names_share_the_memory_of_the_message() {
    let bytes = message(Body::LeasesEnded { keys: vec![Key::new("users:7")] }).encode().unwrap();
    let Body::LeasesEnded { keys } = Message::decode(bytes.clone()).unwrap().body else {
        panic!("another kind");
    };
    let (start, name) = (bytes.as_ptr() as usize, keys[0].as_bytes().as_ptr() as usize);
    assert!((start..start + bytes.len()).contains(&name));
}
