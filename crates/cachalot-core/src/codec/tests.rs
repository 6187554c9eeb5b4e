use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::*;
use crate::envelope::{self, Header};
use crate::{ErrorKind, Key};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    price_cents: i64,
    tags: Vec<String>,
    stock: BTreeMap<String, u32>,
    note: Option<String>,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Round(f64),
    Box { width: u8, height: u8 },
    Pair(i128, char),
}

fn kettle() -> Product {
    Product {
        id: 12_345,
        name: "Enamel kettle, blue".into(),
        price_cents: -4_995,
        tags: vec!["steel".into(), "hob".into(), String::new()],
        stock: [("north".to_owned(), 3), ("süd".to_owned(), u32::MAX)].into(),
        note: Some("two years".into()),
        shape: Shape::Box { width: 20, height: 255 },
    }
}

/// What nests as deeply as its bytes say, in each of the ways a type can.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Option<Box<Wrapped>>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Logic {
    True,
    Not(Box<Logic>),
    And(Box<Logic>, Box<Logic>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Folder {
    inside: BTreeMap<String, Folder>,
}

/// Takes much of the stack per level.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    next: Option<Box<Wide>>,
    a: [u64; 16],
    b: (String, String, String, String, [u64; 16]),
    c: [u64; 16],
    d: Option<[u64; 16]>,
    e: Vec<Wide>,
    f: Shape,
}

/// Runs a check with each codec.
macro_rules! with_each_codec {
    ($check:ident $(, $argument:expr)*) => {
        $check(&MsgPack $(, $argument)*);
        $check(&Json $(, $argument)*);
        $check(&Postcard $(, $argument)*);
        $check(&Bincode $(, $argument)*);
    };
}

fn bytes_of<V: 'static>(codec: &dyn Codec<V>, value: &V) -> Vec<u8> {
    let mut out = b"before".to_vec();
    codec.encode(value, &mut out).unwrap();
    out.split_off(6)
}

fn comes_back<V: PartialEq + Debug + 'static>(codec: &dyn Codec<V>, value: &V) {
    let bytes = bytes_of(codec, value);
    assert_eq!(&codec.decode(&bytes).unwrap(), value, "{codec:?}");
}

fn is_a_miss<V: Debug + 'static>(codec: &dyn Codec<V>, bytes: &[u8]) {
    let error = codec.decode(bytes).expect_err("a miss");
    assert_eq!(error.kind(), ErrorKind::Decode);
}

#[test]
fn values_come_back_under_every_codec() {
    with_each_codec!(comes_back, &kettle());
    with_each_codec!(comes_back, &String::from("ü"));
    with_each_codec!(comes_back, &Some(u64::MAX));
    with_each_codec!(comes_back, &None::<u64>);
    with_each_codec!(comes_back, &());
    with_each_codec!(comes_back, &vec![vec![1u8], vec![], vec![2, 3]]);
    with_each_codec!(comes_back, &(i128::MIN, u64::MAX, i64::MIN, 'ß', 0.1f64, true));
    with_each_codec!(comes_back, &HashMap::from([(1u32, "a".to_owned()), (2, "b".to_owned())]));
    for shape in [Shape::Point, Shape::Round(0.5), Shape::Pair(i128::MAX, 'x')] {
        with_each_codec!(comes_back, &shape);
    }
    let tree = Tree(vec![Tree(vec![]), Tree(vec![Tree(vec![])])]);
    with_each_codec!(comes_back, &tree);
}

#[test]
fn each_codec_has_its_own_id_among_this_crates() {
    let ids = [
        Codec::<u8>::id(&MsgPack),
        Codec::<u8>::id(&Json),
        Codec::<u8>::id(&Postcard),
        Codec::<u8>::id(&Bincode),
    ];
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn codecs_without_names_ask_for_a_schema() {
    assert!(!Codec::<u8>::needs_schema(&MsgPack) && !Codec::<u8>::needs_schema(&Json));
    assert!(Codec::<u8>::needs_schema(&Postcard) && Codec::<u8>::needs_schema(&Bincode));
}

#[test]
fn every_truncation_of_a_value_is_a_miss() {
    fn check(codec: &dyn Codec<Product>) {
        let bytes = bytes_of(codec, &kettle());
        for length in 0..bytes.len() {
            is_a_miss(codec, &bytes[..length]);
        }
    }
    with_each_codec!(check);
}

#[test]
fn bytes_after_a_value_are_a_miss() {
    fn check(codec: &dyn Codec<Product>) {
        for extra in [&b"0"[..], b"\x00", b"\xc0", b"\xff\xff\xff\xff", b"\x91", b"null"] {
            let mut bytes = bytes_of(codec, &kettle());
            bytes.extend_from_slice(extra);
            is_a_miss(codec, &bytes);
        }
    }
    with_each_codec!(check);
}

#[test]
fn an_envelope_never_yields_another_value() {
    fn check(codec: &dyn Codec<Product>) {
        let (key, other) = (Key::new("products:1"), Key::new("products:2"));
        let header = Header {
            codec: 0,
            schema: 1,
            negative: false,
            fresh_for: Duration::from_secs(60),
            kept_for: Duration::from_secs(90),
            compute_time: Duration::from_millis(3),
            version: 0,
        };
        let read = |key: &Key, bytes: &[u8]| {
            let envelope::Opened { header, value, .. } = envelope::open(key, bytes)?;
            assert_eq!(header.codec, codec.id());
            codec.decode(value)
        };
        let mut bytes = envelope::encode(&key, header, &[], Some(&kettle()), codec).unwrap().to_vec();
        assert_eq!(read(&key, &bytes).unwrap(), kettle());
        assert!(read(&other, &bytes).is_err());
        for length in 0..bytes.len() {
            assert!(read(&key, &bytes[..length]).is_err(), "{codec:?}: {length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&key, &bytes).is_err(), "{codec:?}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
    with_each_codec!(check);
}

mod first {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct User {
        pub(super) id: u64,
        pub(super) name: String,
        pub(super) email: String,
    }
}

mod second {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct User {
        pub(super) name: String,
        #[serde(default)]
        pub(super) admin: bool,
        pub(super) id: u64,
    }

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct Strict {
        pub(super) id: u64,
        pub(super) age: u8,
    }
}

#[test]
fn codecs_with_names_survive_added_removed_and_moved_fields() {
    fn check(old: &dyn Codec<first::User>, new: &dyn Codec<second::User>) {
        let user = first::User { id: 7, name: "Ann".into(), email: "ann@example.org".into() };
        let read = new.decode(&bytes_of(old, &user)).unwrap();
        assert_eq!((read.id, &*read.name, read.admin), (7, "Ann", false));
    }
    check(&MsgPack, &MsgPack);
    check(&Json, &Json);
}

#[test]
fn a_field_without_a_default_that_is_not_there_is_a_miss_that_names_it() {
    fn check(old: &dyn Codec<first::User>, new: &dyn Codec<second::Strict>) {
        let user = first::User { id: 7, name: "Ann".into(), email: String::new() };
        let error = new.decode(&bytes_of(old, &user)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(format!("{error:?}").contains("missing field `age`"), "{error:?}");
    }
    check(&MsgPack, &MsgPack);
    check(&Json, &Json);
}

#[test]
fn an_error_never_quotes_the_value() {
    const SECRET: &str = "hunter2, expected hunter2";

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(try_from = "String")]
    struct Picky(String);

    impl TryFrom<String> for Picky {
        type Error = String;

        fn try_from(text: String) -> std::result::Result<Self, String> {
            Err(format!("I don't like {text}"))
        }
    }

    fn check<V: Debug + 'static>(codec: &dyn Codec<V>, bytes: &[u8]) {
        let error = codec.decode(bytes).unwrap_err();
        let text = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
        assert!(!text.contains("hunter2"), "{text}");
    }

    fn check_all<V: Debug + 'static + Serialize + DeserializeOwned>() {
        let value = SECRET.to_owned();
        check::<V>(&MsgPack, &bytes_of(&MsgPack, &value));
        check::<V>(&Json, &bytes_of(&Json, &value));
        check::<V>(&Bincode, &bytes_of(&Bincode, &value));
        check::<V>(&Postcard, &bytes_of(&Postcard, &value));
    }

    check_all::<Picky>();
    check_all::<Shape>();
    check::<u64>(&MsgPack, &bytes_of(&MsgPack, &SECRET.to_owned()));
    check::<u64>(&Json, &bytes_of(&Json, &SECRET.to_owned()));
}

/// What a container would allocate ahead, as asked by the visitor of a sequence of `T`.
struct Hints<T>(std::marker::PhantomData<T>);

thread_local! {
    static HINTED: Cell<usize> = const { Cell::new(0) };
}

impl<T> Serialize for Hints<T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Hints<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Asking<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Asking<T> {
            type Value = Hints<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Hints<T>, A::Error> {
                let hint = access.size_hint().unwrap_or(0);
                HINTED.set(HINTED.get().saturating_add(hint));
                while access.next_element::<T>()?.is_some() {}
                Ok(Hints(std::marker::PhantomData))
            }
        }

        from.deserialize_seq(Asking(std::marker::PhantomData))
    }
}

#[test]
fn containers_are_told_to_expect_no_more_than_the_input_could_hold() {
    fn hinted<V: 'static>(codec: &dyn Codec<V>, bytes: &[u8]) -> usize {
        HINTED.set(0);
        assert!(codec.decode(bytes).is_err());
        HINTED.get()
    }
    type Nested = Hints<Hints<Hints<u64>>>;
    // Each level claims 2^32 - 1 elements, and more.
    let claims = b"\xdd\xff\xff\xff\xff".repeat(3);
    assert!(hinted::<Nested>(&MsgPack, &claims) <= claims.len());
    let claims = b"\xff\xff\xff\xff\x0f".repeat(3);
    assert!(hinted::<Nested>(&Postcard, &claims) <= claims.len());
    let claims = b"\xfd\xff\xff\xff\xff\xff\x00\x00\x00".repeat(3);
    assert!(hinted::<Nested>(&Bincode, &claims) <= claims.len());
    assert_eq!(hinted::<Nested>(&Json, b"[[[1,2,3"), 0);
}

#[test]
fn an_honest_length_is_passed_on() {
    fn check(codec: &dyn Codec<Hints<u64>>, list: &dyn Codec<Vec<u64>>) {
        HINTED.set(0);
        codec.decode(&bytes_of(list, &vec![1; 1000])).unwrap();
        assert_eq!(HINTED.get(), 1000, "{codec:?}");
    }
    check(&MsgPack, &MsgPack);
    check(&Postcard, &Postcard);
    check(&Bincode, &Bincode);
}

#[test]
fn elements_without_bytes_end() {
    // 2^60 elements that take no byte each would keep a decoder busy for a year.
    is_a_miss::<Vec<()>>(&Postcard, b"\x80\x80\x80\x80\x80\x80\x80\x80\x10");
    is_a_miss::<Vec<()>>(&Bincode, b"\xfd\x00\x00\x00\x00\x00\x00\x00\x10");
    is_a_miss::<Vec<[(); 0]>>(&Postcard, b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f");
    is_a_miss::<Vec<[(); 0]>>(&Bincode, b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f");
    // As many as anybody needs come back.
    with_each_codec!(comes_back, &vec![(); 65_536]);
    is_a_miss::<Vec<()>>(&Postcard, &bytes_of(&Postcard, &vec![(); 70_000]));
}

/// A value nested `depth` times, made from inside out.
fn nested<V>(depth: usize, inmost: V, wrap: impl Fn(V) -> V) -> V {
    (0..depth).fold(inmost, |inner, _| wrap(inner))
}

#[test]
fn ordinary_nesting_comes_back() {
    with_each_codec!(comes_back, &nested(60, Tree(vec![]), |inner| Tree(vec![inner])));
    with_each_codec!(
        comes_back,
        &nested(60, List { next: None }, |inner| List { next: Some(Box::new(inner)) })
    );
    with_each_codec!(comes_back, &nested(60, Logic::True, |inner| Logic::Not(Box::new(inner))));
    let folder = nested(30, Folder { inside: BTreeMap::new() }, |inner| Folder {
        inside: [("x".to_owned(), inner)].into(),
    });
    with_each_codec!(comes_back, &folder);
}

#[test]
fn nesting_without_end_is_a_miss_not_the_end_of_the_stack() {
    const LEVELS: usize = 1_000_000;
    // Postcard and bincode: one byte per level ("one element", "some", "the variant Not").
    let ones = vec![1; LEVELS];
    fn nameless<V: Serialize + DeserializeOwned + Debug + 'static>(bytes: &[u8]) {
        is_a_miss::<V>(&Postcard, bytes);
        is_a_miss::<V>(&Bincode, bytes);
    }
    nameless::<Tree>(&ones);
    nameless::<List>(&ones);
    nameless::<Wrapped>(&ones);
    nameless::<Logic>(&ones);
    nameless::<Wide>(&ones);
    nameless::<Logic>(&vec![2; LEVELS]);
    nameless::<Folder>(&[1, 1, b'x'].repeat(LEVELS));
    // MessagePack: an array of one, a map of one, names where there are any.
    is_a_miss::<Tree>(&MsgPack, &vec![0x91; LEVELS]);
    is_a_miss::<List>(&MsgPack, &b"\x81\xa4next".repeat(LEVELS));
    is_a_miss::<Wrapped>(&MsgPack, &vec![0x91; LEVELS]);
    is_a_miss::<Wide>(&MsgPack, &b"\x81\xa4next".repeat(LEVELS));
    is_a_miss::<Logic>(&MsgPack, &b"\x81\xa3Not".repeat(LEVELS));
    is_a_miss::<Folder>(&MsgPack, &b"\x81\xa6inside\x81\xa1x".repeat(LEVELS));
    // Fields that nobody asked for are read over, and nest as well.
    is_a_miss::<List>(&MsgPack, &[&b"\x81\xa4what"[..], &vec![0x91; LEVELS]].concat());
    is_a_miss::<List>(&Json, &[&b"{\"what\":"[..], &vec![b'['; LEVELS]].concat());
    is_a_miss::<serde_json::Value>(&MsgPack, &vec![0x91; LEVELS]);
    is_a_miss::<serde_json::Value>(&Json, &vec![b'['; LEVELS]);
    is_a_miss::<Tree>(&Json, &vec![b'['; LEVELS]);
    is_a_miss::<List>(&Json, &b"{\"next\":".repeat(LEVELS));
    is_a_miss::<Wide>(&Json, &b"{\"next\":".repeat(LEVELS));
    is_a_miss::<Logic>(&Json, &b"{\"Not\":".repeat(LEVELS));
    is_a_miss::<Folder>(&Json, &b"{\"inside\":{\"x\":".repeat(LEVELS));
    // A type that nests without reading a byte.
    is_a_miss::<Wrapped>(&Json, b"1");
    is_a_miss::<Wrapped>(&MsgPack, b"\x01");
}

#[test]
fn depth_is_counted_per_branch() {
    let wide = Tree((0..1000).map(|_| nested(20, Tree(vec![]), |inner| Tree(vec![inner]))).collect());
    with_each_codec!(comes_back, &wide);
}

fn any_product() -> impl Strategy<Value = Product> {
    let shape = prop_oneof![
        Just(Shape::Point),
        (-1e300..1e300).prop_map(Shape::Round),
        any::<(u8, u8)>().prop_map(|(width, height)| Shape::Box { width, height }),
        any::<(i128, char)>().prop_map(|(a, b)| Shape::Pair(a, b)),
    ];
    let (texts, stock) = (
        proptest::collection::vec(any::<String>(), 0..5),
        proptest::collection::btree_map(any::<String>(), any::<u32>(), 0..5),
    );
    (any::<(u64, String, i64)>(), texts, stock, any::<Option<String>>(), shape).prop_map(
        |((id, name, price_cents), tags, stock, note, shape)| Product {
            id,
            name,
            price_cents,
            tags,
            stock,
            note,
            shape,
        },
    )
}

/// Decodes, or is a miss. What decodes comes back again.
fn decodes_or_is_a_miss<V: PartialEq + Debug + 'static>(codec: &dyn Codec<V>, bytes: &[u8]) {
    match codec.decode(bytes) {
        Ok(value) => comes_back(codec, &value),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Decode),
    }
}

fn all_types(bytes: &[u8]) {
    fn check<V: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(bytes: &[u8]) {
        decodes_or_is_a_miss::<V>(&MsgPack, bytes);
        decodes_or_is_a_miss::<V>(&Json, bytes);
        decodes_or_is_a_miss::<V>(&Postcard, bytes);
        decodes_or_is_a_miss::<V>(&Bincode, bytes);
    }
    check::<Vec<u64>>(bytes);
    check::<String>(bytes);
    check::<(Option<char>, Vec<u8>, Vec<String>)>(bytes);
    check::<HashMap<String, Vec<u32>>>(bytes);
    check::<List>(bytes);
    check::<Tree>(bytes);
    check::<Logic>(bytes);
    check::<Folder>(bytes);
}

proptest! {
    #[test]
    fn any_product_comes_back(product in any_product()) {
        with_each_codec!(comes_back, &product);
    }

    #[test]
    fn any_bytes_decode_or_are_a_miss(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        all_types(&bytes);
    }

    #[test]
    fn any_lengths_and_markers_decode_or_are_a_miss(
        bytes in proptest::collection::vec(
            prop_oneof![
                Just(0x00), Just(0x01), Just(0x7f), Just(0x80), Just(0x81), Just(0x90), Just(0x91),
                Just(0xa1), Just(0xc0), Just(0xc6), Just(0xc9), Just(0xdb), Just(0xdd), Just(0xdf),
                Just(0xfb), Just(0xfc), Just(0xfd), Just(0xfe), Just(0xff), Just(b'['), Just(b'{'),
                Just(b'"'), Just(b'}'), Just(b']'), Just(b','), Just(b':'), Just(b'1'), Just(b'e'),
            ],
            0..40,
        ),
    ) {
        all_types(&bytes);
    }

    #[test]
    fn a_damaged_product_decodes_or_is_a_miss(
        product in any_product(), at in 0usize..10_000, to: u8, cut in 0usize..10_000,
    ) {
        fn check(codec: &dyn Codec<Product>, product: &Product, at: usize, to: u8, cut: usize) {
            let mut bytes = bytes_of(codec, product);
            let length = bytes.len();
            bytes[at % length] = to;
            bytes.truncate(1 + cut % length);
            if let Err(error) = codec.decode(&bytes) {
                assert_eq!(error.kind(), ErrorKind::Decode);
            }
        }
        with_each_codec!(check, &product, at, to, cut);
    }
}
