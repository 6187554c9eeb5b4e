//! One process that is waited for: a cache with membership over one Redis, steered by lines.
//!
//! `member-node URL pub-sub|stream TERM_MS NAME`.
//!
//! | it is told | and says | when |
//! |---|---|---|
//! | | `ready` | it is connected |
//! | `load N` | `holds N` | it has loaded key 1, and serves it from memory |
//! | `look N` | `old N`, `nothing N` | at once: what memory serves |
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "its failure is the test's")]
#![allow(clippy::print_stdout, reason = "that is how it answers")]

use std::io::Write;
use std::time::Duration;

use cachalot::{Cache, Memory};
use integration_tests::patient;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, bus, term, name] = args.as_slice() else { panic!("member-node URL BUS TERM_MS NAME") };
    let cache = open(url, bus, Duration::from_millis(term.parse().unwrap()), name).await;
    let mut heard = listen();
    say("ready");
    while let Some(line) = heard.recv().await {
        match line.split_once(' ') {
            Some(("load", round)) => {
                while cache.get_local(&1).is_none() {
                    cache.get_or_load(&1, |_| async { Ok("old".to_owned()) }).await.unwrap();
                    sleep(Duration::from_millis(5)).await;
                }
                say(&format!("holds {round}"));
            }
            Some(("look", round)) => {
                let found = cache.get_local(&1);
                say(&format!("{} {round}", found.as_deref().map_or("nothing", String::as_str)));
            }
            _ => panic!("{line}"),
        }
    }
}

async fn open(url: &str, bus: &str, term: Duration, name: &str) -> Cache<u64, String> {
    let buses = patient(url).bus();
    let builder = Cache::builder("users")
        .memory(Memory::entries(100))
        .backend(patient(url).connect().await.expect("a server"))
        .membership(term)
        .member_name(name);
    let builder = match bus {
        "stream" => builder.bus(buses.stream().unwrap()),
        _ => builder.bus(buses.pub_sub().unwrap()),
    };
    builder.build().unwrap()
}

fn listen() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            sender.send(line.expect("text")).expect("it still listens");
        }
        // Whoever steered it is gone.
        std::process::exit(1);
    });
    receiver
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}
