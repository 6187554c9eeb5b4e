use proptest::prelude::*;

use super::*;

/// Bytes as they are, so that these tests are about the envelope alone.
#[derive(Debug)]
struct As(u8);

const RAW: As = As(200);

impl Codec<Vec<u8>> for As {
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

fn key() -> Key {
    Key::new("users:7")
}

fn header() -> Header {
    Header {
        codec: 200,
        schema: 3,
        negative: false,
        fresh_for: Duration::from_secs(300),
        kept_for: Duration::from_secs(3900),
        compute_time: Duration::from_micros(12_345),
        version: 0,
    }
}

fn sealed(header: Header, value: Option<&[u8]>) -> Vec<u8> {
    let value = value.map(<[u8]>::to_vec);
    encode(&key(), header, &[], value.as_ref(), &RAW).unwrap().to_vec()
}

/// Gives `bytes` the checksum that fits them, as one would who writes bad bytes on purpose.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let (head, value) = bytes.split_first_chunk().unwrap();
    let sum = checksum(&key(), *head, value);
    bytes[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn opened<'a>(key: &Key, bytes: &'a [u8]) -> Result<(Header, &'a [u8])> {
    let Opened { header, tags, value } = open(key, bytes)?;
    assert_eq!(tags, []);
    Ok((header, value))
}

fn detail(bytes: &[u8]) -> String {
    let error = open(&key(), bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    error.to_string()
}

/// Values of every length class of the checksum.
fn samples() -> impl Iterator<Item = Vec<u8>> {
    [0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1100]
        .into_iter()
        .map(|length| (0..length).map(|n: u32| (n * 31 % 251) as u8).collect())
}

#[test]
fn what_was_encoded_is_opened() {
    for value in samples() {
        let bytes = sealed(header(), Some(&value));
        assert_eq!(bytes.len(), HEADER + value.len());
        assert_eq!(opened(&key(), &bytes).unwrap(), (header(), &*value));
    }
}

#[test]
fn a_negative_entry_has_no_value() {
    let bytes = sealed(header(), None);
    let (read, value) = opened(&key(), &bytes).unwrap();
    assert!(read.negative && value.is_empty());
    // An empty value is still a value.
    let bytes = sealed(header(), Some(b""));
    assert!(!opened(&key(), &bytes).unwrap().0.negative);
}

#[test]
fn codec_and_absence_are_what_they_are_whatever_the_header_says() {
    let lying = Header { codec: 9, negative: true, ..header() };
    let bytes = sealed(lying, Some(b"here"));
    assert_eq!(opened(&key(), &bytes).unwrap(), (header(), &b"here"[..]));
}

#[test]
fn extreme_times_come_back() {
    let days = Duration::from_millis(1 << 31);
    let in_millis = [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_nanos(1), Duration::ZERO),
        (Duration::from_nanos(1_999_999), Duration::from_millis(1)),
        (days, days),
        (Duration::from_millis(u64::MAX - 1), Duration::from_millis(u64::MAX - 1)),
        // What the wire cannot count is for ever.
        (Duration::from_millis(u64::MAX), Duration::MAX),
        (Duration::from_secs(u64::MAX), Duration::MAX),
        (Duration::MAX, Duration::MAX),
    ];
    for (written, expected) in in_millis {
        let header = Header { fresh_for: written, kept_for: written, ..header() };
        let bytes = sealed(header, Some(b"v"));
        let (read, _) = opened(&key(), &bytes).unwrap();
        assert_eq!((read.fresh_for, read.kept_for), (expected, expected), "{written:?}");
    }
    let in_micros = [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_nanos(1), Duration::ZERO),
        (Duration::from_nanos(1_999), Duration::from_micros(1)),
        (days, days),
        (Duration::MAX, Duration::from_micros(u64::MAX)),
    ];
    for (written, expected) in in_micros {
        let header = Header { compute_time: written, ..header() };
        let bytes = sealed(header, Some(b"v"));
        assert_eq!(opened(&key(), &bytes).unwrap().0.compute_time, expected, "{written:?}");
    }
}

#[test]
fn two_schema_versions_tell_themselves_apart() {
    for schema in [0, 1, 2, u32::MAX] {
        let bytes = sealed(Header { schema, ..header() }, Some(b"v"));
        assert_eq!(opened(&key(), &bytes).unwrap().0.schema, schema);
    }
}

#[test]
fn every_truncation_is_a_miss() {
    for value in samples() {
        let bytes = sealed(header(), Some(&value));
        for length in 0..bytes.len() {
            assert!(open(&key(), &bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
    }
}

#[test]
fn every_flipped_bit_is_a_miss() {
    for value in samples() {
        let mut bytes = sealed(header(), Some(&value));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key(), &bytes).is_err(), "bit {bit} of {}", bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn bytes_too_many_are_a_miss() {
    for value in samples() {
        for extra in [&[0][..], &[0; 8], &[0xff], &[1, 2, 3]] {
            let mut bytes = sealed(header(), Some(&value));
            bytes.extend_from_slice(extra);
            assert!(open(&key(), &bytes).is_err(), "{} + {extra:?}", value.len());
            bytes.splice(..0, extra.iter().copied());
            assert!(open(&key(), &bytes).is_err(), "{extra:?} + {}", value.len());
        }
    }
}

#[test]
fn a_value_under_the_wrong_key_is_a_miss() {
    for value in samples() {
        let bytes = sealed(header(), Some(&value));
        for other in ["users:8", "users:77", "user:7", "users:", "", "orders:7"] {
            assert!(open(&Key::new(other), &bytes).is_err(), "{other}");
        }
    }
}

#[test]
fn parts_of_two_envelopes_make_no_third() {
    let (first, second) = (sealed(header(), Some(b"first")), sealed(header(), Some(b"other")));
    let mut mixed = first.clone();
    mixed[HEADER..].copy_from_slice(&second[HEADER..]);
    assert!(open(&key(), &mixed).is_err());
    mixed[CHECKSUM].copy_from_slice(&second[CHECKSUM]);
    // The same header: it is the second now.
    assert_eq!(opened(&key(), &mixed).unwrap().1, b"other");
    mixed[8] ^= 1;
    assert!(open(&key(), &mixed).is_err());
}

#[test]
fn each_kind_of_unusable_bytes_says_what_it_is() {
    let good = sealed(header(), Some(b"value"));
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    assert!(detail(b"").contains("too short"));
    assert!(detail(&good[..HEADER - 1]).contains("too short"));
    assert!(detail(&changed(0, 0)).contains("another format"));
    assert!(detail(&changed(HEADER, b'V')).contains("damaged, or another key's"));
    assert!(detail(&changed(0, 2)).contains("another format"));
    assert!(detail(&resealed(changed(2, 8))).contains("unknown flags"));
    assert!(detail(&resealed(changed(2, 9))).contains("unknown flags"));
    assert!(detail(&resealed(changed(2, VERSIONED))).contains("a version that cannot be read"));
    assert!(detail(&resealed(changed(2, TAGGED))).contains("tags that cannot be read"));
    assert!(detail(&resealed(changed(3, 1))).contains("unknown flags"));
    assert!(detail(&resealed(changed(2, NEGATIVE))).contains("said to be absent"));
    assert_eq!(opened(&key(), &resealed(good.clone())).unwrap().1, b"value");
    assert!(detail(b"").ends_with("(key users:7)"));
}

#[test]
fn a_codec_that_takes_bytes_away_is_an_error() {
    #[derive(Debug)]
    struct Taker;

    impl Codec<u8> for Taker {
        fn id(&self) -> u8 {
            201
        }

        fn needs_schema(&self) -> bool {
            false
        }

        fn encode(&self, _: &u8, out: &mut Vec<u8>) -> Result<()> {
            out.clear();
            Ok(())
        }

        fn decode(&self, _: &[u8]) -> Result<u8> {
            Ok(0)
        }
    }

    let error = encode(&key(), header(), &[], Some(&1), &Taker).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
}

#[test]
fn a_version_comes_back_beside_tags_and_absence() {
    for version in [1, 7, (1 << 53) + 1, 1 << 63, u64::MAX] {
        let header = Header { version, ..header() };
        for tags in [vec![], vec![tagged(b"a"), tagged(b"category:7")]] {
            for value in [Some(b"value".to_vec()), Some(Vec::new()), None] {
                let bytes = encode(&key(), header, &tags, value.as_ref(), &RAW).unwrap();
                let read = open(&key(), &bytes).unwrap();
                assert_eq!(read.header, Header { negative: value.is_none(), ..header });
                assert_eq!((read.tags, read.value), (tags.clone(), value.as_deref().unwrap_or_default()));
            }
        }
    }
    let (none, some) = (sealed(header(), Some(b"v")), sealed(Header { version: 1, ..header() }, Some(b"v")));
    assert_eq!(some.len(), none.len() + 8);
}

#[test]
fn a_version_that_is_cut_or_none_is_a_miss() {
    let good = sealed(Header { version: 1, ..header() }, Some(b""));
    for length in HEADER..good.len() {
        let detail = detail(&resealed(good[..length].to_vec()));
        assert!(detail.contains("a version that cannot be read"), "{length}");
    }
    let mut none = good;
    none[HEADER] = 0;
    assert!(detail(&resealed(none)).contains("a version that cannot be read"));
}

fn tagged(name: &[u8]) -> Tagged {
    let entropy = crate::Entropy::seeded(name.len() as u64);
    Tagged { tag: crate::Tag::new(name).unwrap(), token: crate::TagToken::draw(&entropy) }
}

#[test]
fn tags_come_back_with_their_tokens() {
    for names in [vec![&b"a"[..]], vec![b"category:7", b"\xff\0"], vec![&[b'x'; 256]; 64]] {
        let tags: Vec<_> = names.iter().map(|name| tagged(name)).collect();
        for value in [Some(b"value".to_vec()), Some(Vec::new()), None] {
            let bytes = encode(&key(), header(), &tags, value.as_ref(), &RAW).unwrap();
            let read = open(&key(), &bytes).unwrap();
            assert_eq!((&read.tags, read.header.negative), (&tags, value.is_none()));
            assert_eq!(read.value, value.as_deref().unwrap_or_default());
        }
    }
    let many = vec![tagged(b"t"); 256];
    assert_eq!(encode(&key(), header(), &many, Some(&vec![]), &RAW).unwrap_err().kind(), ErrorKind::Encode);
}

#[test]
fn tags_that_do_not_end_or_are_none_are_a_miss() {
    let tags = [tagged(b"a"), tagged(b"category:7")];
    let good = encode(&key(), header(), &tags, Some(&vec![]), &RAW).unwrap();
    for length in HEADER..good.len() {
        assert!(detail(&resealed(good[..length].to_vec())).contains("tags that cannot be read"), "{length}");
    }
    for (at, to) in [(HEADER, 0), (HEADER, 3), (HEADER + 1, 0), (HEADER + 2, 2)] {
        let mut bytes = good.to_vec();
        bytes[at] = to;
        assert!(detail(&resealed(bytes)).contains("tags that cannot be read"), "{at}");
    }
    let mut value_behind = encode(&key(), header(), &tags, None, &RAW).unwrap().to_vec();
    value_behind.push(1);
    assert!(detail(&resealed(value_behind)).contains("said to be absent"));
}

fn any_header() -> impl Strategy<Value = Header> {
    let version = prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()];
    (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>(), version).prop_map(
        |(schema, fresh, kept, compute, negative, version)| Header {
            codec: 200,
            schema,
            negative,
            fresh_for: from_millis(fresh),
            kept_for: from_millis(kept),
            compute_time: Duration::from_micros(compute),
            version,
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_a_miss(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // One in 2^64 would not be.
        prop_assert!(open(&key(), &bytes).is_err());
    }

    #[test]
    fn any_bytes_behind_a_fitting_checksum_open_or_are_a_miss(
        mut bytes in proptest::collection::vec(any::<u8>(), HEADER..200), known: bool,
    ) {
        bytes[0] = VERSION;
        if known {
            bytes[2] &= NEGATIVE | TAGGED | VERSIONED;
            bytes[3] = 0;
        }
        let bytes = resealed(bytes);
        match open(&key(), &bytes) {
            Ok(Opened { header, tags, value }) => {
                // What it says is what is there, and nothing else would say it.
                let value = (!header.negative).then(|| value.to_vec());
                let again = encode(&key(), header, &tags, value.as_ref(), &As(header.codec)).unwrap();
                prop_assert_eq!(&again[..], &bytes[..]);
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Decode),
        }
    }

    #[test]
    fn any_cut_and_any_damage_of_any_envelope_is_a_miss(
        header in any_header(), value in proptest::collection::vec(any::<u8>(), 0..60),
        names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..9), 0..3),
        flip in 1u8..,
    ) {
        let tags: Vec<_> = names.iter().map(|name| tagged(name)).collect();
        let value = (!header.negative).then_some(value);
        let mut bytes = encode(&key(), header, &tags, value.as_ref(), &RAW).unwrap().to_vec();
        for at in 0..bytes.len() {
            prop_assert!(open(&key(), &bytes[..at]).is_err(), "cut at {}", at);
            bytes[at] ^= flip;
            prop_assert!(open(&key(), &bytes).is_err(), "flipped at {}", at);
            bytes[at] ^= flip;
        }
        prop_assert!(open(&key(), &bytes).is_ok());
    }

    #[test]
    fn any_header_and_value_come_back(
        header in any_header(), value in proptest::collection::vec(any::<u8>(), 0..600),
        names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..5),
    ) {
        let tags: Vec<_> = names.iter().map(|name| tagged(&name[..name.len().min(256)])).collect();
        let value = (!header.negative).then_some(value);
        let bytes = encode(&key(), header, &tags, value.as_ref(), &RAW).unwrap();
        let read = open(&key(), &bytes).unwrap();
        prop_assert_eq!((read.header, read.tags), (header, tags));
        prop_assert_eq!(read.value, value.as_deref().unwrap_or_default());
    }

    #[test]
    fn any_damage_is_a_miss(
        value in proptest::collection::vec(any::<u8>(), 0..600),
        flips in proptest::collection::btree_set(0usize..100_000, 1..8),
    ) {
        let mut bytes = sealed(header(), Some(&value));
        let bits = bytes.len() * 8;
        let flips: std::collections::BTreeSet<_> = flips.into_iter().map(|bit| bit % bits).collect();
        for bit in flips {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        prop_assert!(open(&key(), &bytes).is_err());
    }

    #[test]
    fn any_other_key_is_a_miss(
        value in proptest::collection::vec(any::<u8>(), 0..300),
        other in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        prop_assume!(other != b"users:7");
        prop_assert!(open(&Key::new(other), &sealed(header(), Some(&value))).is_err());
    }
}
