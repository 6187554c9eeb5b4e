//! The layout `plain`: what lies in Redis is what services in other languages expect, and what they leave is found.
//!
//! Starts a `redis-server` of its own and stops it at the end:
//! `cargo run -p cachalot-redis-backend --example plain_layout`. How it looks from Python, and with a cache over it:
//! `docs/interop.md`.
// It speaks to people, and gives up if anything fails.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use cachalot_core::codec::Json;
use cachalot_core::envelope::{self, Header};
use cachalot_core::{
    Backend, Bus, BusEvent, Codec, Entropy, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Result,
    Token,
};
use cachalot_redis_backend::{PlainForm, Redis};
use cachalot_testkit::RedisServer;

#[tokio::main]
async fn main() -> Result<()> {
    let server = RedisServer::start();
    let mut foreigner = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut foreign = |words: &[&str]| -> Option<String> {
        let found = redis::cmd(words[0]).arg(&words[1..]).query(&mut foreigner).unwrap();
        println!("  foreigner: {} -> {found:?}", words.join(" "));
        found
    };
    let layout = Redis::builder(server.url()).plain().form(PlainForm::Stale);
    let mut told = layout.clone().bus()?.subscribe().await?;
    assert_eq!(told.next().await?, BusEvent::Confirmed);
    let backend = layout.connect().await?;
    let ann = Key::new("user:1");

    println!("A lease is a lock that others cannot take:");
    let token = Token::draw(&Entropy::thread());
    let reply = backend.get_or_lease(&ann, token, Duration::from_secs(30), None).await?;
    assert_eq!(reply, LeaseReply::Lease { stale: None });
    assert_eq!(foreign(&["SET", "lock:user:1", "theirs", "NX", "EX", "30"]), None);

    println!("A value is JSON, here in the wrapper that says until when it is fresh:");
    let put = put(&ann, "Ann")?;
    assert_eq!(backend.put_leased(&ann, token, put).await?, PutReply::Stored);
    assert!(foreign(&["GET", "user:1"]).unwrap().starts_with(r#"{"value":"Ann","_fresh":"#));

    println!("What others write is read, and what they tell is heard:");
    foreign(&["SETEX", "user:1", "60", r#""Bob""#]);
    let record = backend.get(&ann).await?.unwrap();
    let name: String = Json.decode(envelope::open(&ann, &record.payload)?.value)?;
    println!("  read: {name}");
    assert_eq!(name, "Bob");
    redis::cmd("PUBLISH").arg("cache:invalidate").arg(r#"{"key": "user:1"}"#).exec(&mut foreigner).unwrap();
    let event = told.next().await?;
    println!("  heard: {event:?}");
    assert!(matches!(event, BusEvent::Foreign(_)));
    Ok(())
}

/// As a cache with `codec(Json)` makes it: fresh for a minute, to be kept for an hour.
fn put(key: &Key, name: &str) -> Result<Put> {
    let header = Header {
        codec: Codec::<String>::id(&Json),
        schema: 0,
        negative: false,
        fresh_for: Duration::from_secs(60),
        kept_for: Duration::from_secs(3600),
        compute_time: Duration::ZERO,
        version: 0,
    };
    let payload: Bytes = envelope::encode(key, header, &[], Some(&name.to_owned()), &Json)?;
    Ok(Put { payload, nonce: Nonce::draw(&Entropy::thread()), ttl: header.kept_for })
}
