//! What foreigners may have left, and what a put becomes.

use cachalot_core::TagToken;
use cachalot_core::{Entropy, Tag};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_700_000_000_000;

fn key() -> Key {
    Key::new("user:1")
}

fn record_of(bytes: impl Into<Vec<u8>>, left_ms: u64) -> Record {
    record(&key(), bytes.into(), left_ms, NOW, 1 << 20).unwrap()
}

/// Codec, value, and the times that a reader makes of it: age, fresh and kept from now, ms.
fn seen(record: &Record) -> (u8, String, [u128; 3]) {
    let opened = envelope::open(&key(), &record.payload).unwrap();
    let from_now = |time: Duration| time.saturating_sub(record.age).as_millis();
    let times = [record.age.as_millis(), from_now(opened.header.fresh_for), from_now(opened.header.kept_for)];
    (opened.header.codec, String::from_utf8_lossy(opened.value).into_owned(), times)
}

fn is_unreadable(text: &str) -> bool {
    seen(&record_of(text, 1_000)).0 == UNREADABLE
}

fn bare(text: &str, left: u128) -> (u8, String, [u128; 3]) {
    (JSON, text.to_owned(), [0, left, left])
}

#[test]
fn a_value_alone_is_fresh_for_as_long_as_it_lives() {
    for text in [
        "1",
        "null",
        " [1, 2] ",
        r#"{"name": "Ann"}"#,
        r#"{"value": 1}"#,
        r#"{"_fresh": 1}"#,
        "not JSON",
        "{",
    ] {
        assert_eq!(seen(&record_of(text, 1_000)), bare(text, 1_000));
    }
    let endless = envelope::open(&key(), &record_of("1", EVER_MS).payload).unwrap().header;
    assert_eq!((endless.fresh_for, endless.kept_for), (Duration::MAX, Duration::MAX));
}

#[test]
fn an_early_value_says_when_it_ends_and_what_it_cost() {
    let record = record_of(r#"{"value": {"a": 1.50}, "_expiry": 1700000010.5, "_delta": 0.25}"#, 60_000);
    assert_eq!(seen(&record), (JSON, r#"{"a": 1.50}"#.to_owned(), [0, 10_500, 60_000]));
    let header = envelope::open(&key(), &record.payload).unwrap().header;
    assert_eq!(header.compute_time, Duration::from_millis(250));
}

#[test]
fn a_stale_value_has_been_stale_since_it_was_no_longer_fresh() {
    let record = record_of(r#"{"_fresh": 1699999990, "value": "x"}"#, 60_000);
    assert_eq!(seen(&record), (JSON, "\"x\"".to_owned(), [10_000, 0, 60_000]));
    // Never fresher than it lives.
    let record = record_of(r#"{"_fresh": 1800000000, "value": "x"}"#, 500);
    assert_eq!(seen(&record), (JSON, "\"x\"".to_owned(), [0, 500, 500]));
}

#[test]
fn what_has_members_of_a_wrapper_and_is_none_is_nobodys_value() {
    for text in [
        r#"{"value": 1, "_expiry": 1700000010}"#,
        r#"{"value": 1, "_expiry": 1, "_delta": 1, "_fresh": 1}"#,
        r#"{"value": 1, "_fresh": 1, "name": "Ann"}"#,
        r#"{"value": 1, "value": 2, "_fresh": 1}"#,
        r#"{"value": 1, "_fresh": 1, "_fresh": 2}"#,
        r#"{"value": 1, "_fresh": 1, "\u005ffresh": 2}"#,
        r#"{"value": 1, "_fresh": "1700000010"}"#,
        r#"{"value": 1, "_fresh": null}"#,
        r#"{"value": 1, "_fresh": true}"#,
        r#"{"value": 1, "_fresh": 1e999}"#,
        r#"{"value": 1, "_expiry": 1, "_delta": -1e999}"#,
        r#"{"value": 1, "_expiry": {}, "_delta": 1}"#,
    ] {
        assert!(is_unreadable(text), "{text}");
    }
}

#[test]
fn numbers_that_are_none_in_json_are_left_to_who_decodes() {
    for text in [
        r#"{"value": 1, "_fresh": NaN}"#,
        r#"{"value": 1, "_fresh": Infinity}"#,
        r#"{"value": 1, "_fresh": 1} x"#,
    ] {
        assert_eq!(seen(&record_of(text, 1_000)), bare(text, 1_000));
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err());
    }
}

#[test]
fn times_beyond_all_range_are_cut() {
    for (until, fresh) in [("1e300", 1_000), ("-1e300", 0), ("-0.0", 0), ("5e-324", 0)] {
        let text = format!(r#"{{"value": 1, "_expiry": {until}, "_delta": 1e300}}"#);
        assert_eq!(seen(&record_of(text, 1_000)).2[1..], [fresh, 1_000], "{until}");
    }
    let text = r#"{"value": 1, "_expiry": 1700000001, "_delta": -5}"#;
    let header = envelope::open(&key(), &record_of(text, 1_000).payload).unwrap().header;
    assert_eq!(header.compute_time, Duration::ZERO);
}

#[test]
fn depth_and_size_do_no_harm() {
    let deep = "[".repeat(200_000);
    let closed = deep.clone() + &"]".repeat(200_000);
    for text in [deep, format!(r#"{{"a": {closed}}}"#), format!(r#"{{"value": {closed}, "_fresh": 1}}"#)] {
        let _ = seen(&record_of(text, 1_000));
    }
    let many = format!(r#"{{"value": 1, {}"_fresh": 1}}"#, r#""value": 1, "#.repeat(10_000));
    assert!(is_unreadable(&many));
    assert!(seen(&record(&key(), vec![b'1'; 2_000], 1_000, NOW, 1_999).unwrap()).0 == UNREADABLE);
}

#[test]
fn the_nonce_is_that_of_the_bytes() {
    let nonce = |text: &str| record_of(text, 1_000).nonce;
    assert_eq!(nonce("1"), nonce("1"));
    assert_ne!(nonce("1"), nonce("2"));
    // As redis.sha1hex gives it.
    assert_eq!(nonce("1").as_bytes()[..4], [0x35, 0x6a, 0x19, 0x2b]);
}

fn put(header: Header, tags: &[Tagged], value: Option<&'static str>) -> Put {
    let value = value.map(|text| Bytes::from_static(text.as_bytes()));
    let payload = envelope::encode(&key(), header, tags, value.as_ref(), &Verbatim(header.codec)).unwrap();
    Put { payload, nonce: nonce(b""), ttl: header.kept_for }
}

fn header() -> Header {
    let second = Duration::from_secs(1);
    times(JSON, second, second * 10, second / 4)
}

#[test]
fn a_put_is_its_json_as_it_stands() {
    let tagged = Tagged { tag: Tag::new("hot").unwrap(), token: TagToken::draw(&Entropy::seeded(1)) };
    let put = put(header(), std::slice::from_ref(&tagged), Some(r#"{"a": 1.50}"#));
    let writing = writing("put", &key(), &put, PlainForm::Stale).unwrap();
    assert_eq!(&writing.json[..], br#"{"a": 1.50}"#);
    assert_eq!((writing.tags, writing.ttl), (vec![tagged], Duration::from_secs(10)));
    let bare = super::writing("put", &key(), &put, PlainForm::Bare).unwrap();
    assert_eq!(bare.ttl, Duration::from_secs(1), "whoever finds it takes it for fresh");
}

#[test]
fn what_the_layout_cannot_say_is_refused_in_plain_words() {
    let cases = [
        (put(Header { codec: 1, ..header() }, &[], Some("1")), "codec(Json)"),
        (put(Header { schema: 3, ..header() }, &[], Some("1")), "schema"),
        (put(Header { version: 7, ..header() }, &[], Some("1")), "version"),
        (put(header(), &[], None), "absent"),
        (put(header(), &[], Some(r#"{"value": 1, "_fresh": 2}"#)), "wrapper"),
    ];
    for (put, words) in cases {
        let error = writing("redis plain put", &key(), &put, PlainForm::Bare).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(words), "{error}");
    }
    let nested = put(header(), &[], Some(r#"{"value": 1, "_fresh": 2}"#));
    assert!(writing("put", &key(), &nested, PlainForm::Early).is_ok());
}

/// Text that is nearly a wrapper.
fn nearly() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"value\"",
        "\"_fresh\"",
        "\"_expiry\"",
        "\"_delta\"",
        "1",
        "-1.5e3",
        "1e999",
        "\"x\"",
        "null",
        " ",
        "\\",
        "\u{fc}",
    ]);
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes_are_a_record(bytes: Vec<u8>, left: u64) {
        let _ = seen(&record_of(bytes, left % (EVER_MS + 1)));
    }

    /// A value that is handed out is the one of a member `value`, or all that is there.
    #[test]
    fn never_another_value(text in nearly()) {
        let (codec, value, times) = seen(&record_of(&*text, 1_000));
        if codec == JSON && value != text {
            let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&whole["value"], &serde_json::from_str::<serde_json::Value>(&value).unwrap());
            prop_assert!(whole["_fresh"].is_number() || whole["_expiry"].is_number());
        }
        prop_assert!(times[1] <= times[2]);
    }
}
