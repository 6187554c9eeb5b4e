//! A server that comes back from an old snapshot, with and without eras:
//! `cargo run --example fail_over`.
#![allow(clippy::unwrap_used, reason = "an example that fails says why")]

use std::time::Duration;

use cachalot_core::{Backend, Entropy, Key, LeaseBackend, Nonce, Put, Result, Token};
use cachalot_redis_backend::{Recovery, Redis, RedisBackend};
use cachalot_testkit::RedisServer;

async fn store(backend: &RedisBackend, key: &Key) -> Result<()> {
    let entropy = Entropy::thread();
    let (token, ttl) = (Token::draw(&entropy), Duration::from_secs(60));
    backend.get_or_lease(key, token, ttl, None).await?;
    let put = Put { payload: "Ann".into(), nonce: Nonce::draw(&entropy), ttl };
    backend.put_leased(key, token, put).await?;
    Ok(())
}

async fn across_a_restart(recovery: Recovery) -> Result<bool> {
    let server = RedisServer::start_with(["--save", "3600 100000"]);
    let settings = Redis::builder(server.url()).deadline(Duration::from_secs(10)).recovery(recovery);
    let (backend, key) = (settings.clone().connect().await?, Key::new("users:7"));
    store(&backend, &key).await?;
    redis::cmd("SAVE")
        .exec(&mut redis::Client::open(server.url()).unwrap().get_connection().unwrap())
        .unwrap();
    backend.remove(&key).await?;
    // What was acknowledged last is forgotten.
    server.restart();
    let found = settings.connect().await?.get(&key).await?;
    Ok(found.is_some())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    for recovery in [Recovery::Replay, Recovery::Era] {
        let is_back = across_a_restart(recovery).await?;
        println!("{recovery:?}: what was removed is {}", if is_back { "back" } else { "gone" });
        assert_eq!(is_back, recovery == Recovery::Replay);
    }
    Ok(())
}
