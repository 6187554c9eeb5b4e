//! Any bytes, under every codec: a value that comes back, or a miss.
#![no_main]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use cachalot_core::codec::{Bincode, Json, MsgPack, Postcard};
use cachalot_core::{Codec, ErrorKind};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    price_cents: i64,
    tags: Vec<String>,
    stock: BTreeMap<String, u32>,
    note: Option<Box<str>>,
    shape: Shape,
    parts: Vec<Product>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Round(i128),
    Box { width: u8, height: Option<u16> },
    Both(Box<Shape>, char),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Guessed {
    Nothing,
    Number(i64),
    Text(String),
    List(Vec<Guessed>),
    Map(BTreeMap<String, Guessed>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

fuzz_target!(|bytes: &[u8]| {
    under_each_codec::<Product>(bytes);
    under_each_codec::<Guessed>(bytes);
    under_each_codec::<List>(bytes);
    under_each_codec::<Vec<()>>(bytes);
    under_each_codec::<Vec<Vec<u64>>>(bytes);
    under_each_codec::<HashMap<u32, (bool, [i16; 3])>>(bytes);
});

fn under_each_codec<V: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(bytes: &[u8]) {
    decodes_or_is_a_miss::<V>(&MsgPack, bytes);
    decodes_or_is_a_miss::<V>(&Json, bytes);
    decodes_or_is_a_miss::<V>(&Postcard, bytes);
    decodes_or_is_a_miss::<V>(&Bincode, bytes);
}

fn decodes_or_is_a_miss<V: PartialEq + Debug + 'static>(codec: &dyn Codec<V>, bytes: &[u8]) {
    let value = match codec.decode(bytes) {
        Ok(value) => value,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Decode),
    };
    let mut again = Vec::new();
    // Not every type can be written in every format: flattened maps have no length.
    if codec.encode(&value, &mut again).is_ok()
        && let Ok(back) = codec.decode(&again)
    {
        assert_eq!(back, value);
    }
}
