//! One process that is killed: write-behinds over SQLite with journals in files, under load.
//!
//! `counter-node FOLDER always|MILLIS load|look N...`. It opens the journals, flushes what they owe, says each row of
//! the database (`value K N`, `value K gone`, `sum K N`; `heedless K N` is what a source that compares nothing has)
//! and `ready`. With `load`, it then writes until it is killed: to each of [`VALUES`] keys rising numbers, from the
//! N of that key on, and deletes it in place of each [`DELETED`]th; to each of [`SUMS`] keys ones, from
//! [`ADDERS`] tasks. What is acknowledged it says, as `put K N` and `add K`.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "its failure is the test's")]
#![allow(clippy::print_stdout, reason = "that is how it answers")]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cachalot::{Cache, Entry, Memory};
use cachalot_strategies::{FileJournal, Fsync, WriteBehind};
use integration_tests::Ledger;
use integration_tests::counting::{ADDERS, SUMS, value_of};

type Counts = WriteBehind<u64, i64, Memory<u64, Arc<Entry<i64>>>, Ledger>;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, fsync, task, from @ ..] = args.as_slice() else {
        panic!("counter-node FOLDER FSYNC TASK N...")
    };
    let folder = Path::new(folder);
    let fsync = match fsync.as_str() {
        "always" => Fsync::Always,
        millis => Fsync::Every(Duration::from_millis(millis.parse().unwrap())),
    };
    let values = open(folder, "values", fsync).await;
    let sums = open(folder, "sums", fsync).await;
    values.flush().await;
    sums.flush().await;
    for entry in values.source().entries() {
        say(&format!("value {} {}", entry.key, shown(entry.value)));
        say(&format!("heedless {} {}", entry.key, shown(entry.heedless)));
    }
    for entry in sums.source().entries() {
        say(&format!("sum {} {}", entry.key, shown(entry.value)));
    }
    say("ready");
    if task == "look" {
        values.shutdown(Duration::from_secs(30)).await.unwrap();
        sums.shutdown(Duration::from_secs(30)).await.unwrap();
        return;
    }
    let mut last = None;
    for (key, from) in from.iter().enumerate() {
        last = Some(tokio::spawn(put(values.clone(), key as u64, from.parse().unwrap())));
    }
    for adder in 0..SUMS * ADDERS {
        last = Some(tokio::spawn(add(sums.clone(), adder % SUMS)));
    }
    last.unwrap().await.unwrap();
}

async fn open(folder: &Path, name: &'static str, fsync: Fsync) -> Counts {
    let cache = Cache::builder(name).memory(Memory::entries(100)).build().unwrap();
    let file = folder.join(format!("{name}.sqlite"));
    let is_of_sums = name == "sums";
    let ledger = if is_of_sums { Ledger::of_sums(&file) } else { Ledger::of_values(&file) };
    // Small, so that kills come while segments begin, end and are given back.
    let journal = FileJournal::at(folder.join(name)).fsync(fsync).segment_bytes(4096);
    let builder = WriteBehind::builder(cache, ledger).flush_every(Duration::from_millis(2)).batch(6);
    let builder = if is_of_sums { builder.merge(|one, other| one + other) } else { builder };
    builder.journal(journal).open().await.unwrap()
}

async fn put(values: Counts, key: u64, from: i64) {
    for n in from.. {
        match value_of(n) {
            Some(value) => values.put(key, value).await.unwrap(),
            None => values.delete(&key).await.unwrap(),
        }
        say(&format!("put {key} {n}"));
    }
}

async fn add(sums: Counts, key: u64) {
    loop {
        sums.put(key, 1).await.unwrap();
        say(&format!("add {key}"));
    }
}

fn shown(value: Option<i64>) -> String {
    value.map_or_else(|| "gone".to_owned(), |value| value.to_string())
}

/// A line at a time, whole or not at all.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
}
