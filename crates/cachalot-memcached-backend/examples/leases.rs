//! One load for many processes, and a removal that a slow load cannot undo, over a memcached of its own.

use std::time::Duration;

use cachalot_core::{Backend, Entropy, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Token};
use cachalot_memcached_backend::Memcached;
use cachalot_testkit::MemcachedServer;

#[tokio::main]
async fn main() -> cachalot_core::Result<()> {
    let server = MemcachedServer::start();
    let (one, two) = (Memcached::connect(server.url()).await?, Memcached::connect(server.url()).await?);
    let (entropy, key) = (Entropy::thread(), Key::new("users:7"));
    let term = Duration::from_secs(5);
    let put = |payload: &'static str| Put {
        payload: payload.into(),
        nonce: Nonce::draw(&entropy),
        ttl: Duration::from_secs(60),
    };

    let (first, second) = (Token::draw(&entropy), Token::draw(&entropy));
    assert!(matches!(one.get_or_lease(&key, first, term, None).await?, LeaseReply::Lease { .. }));
    let reply = two.get_or_lease(&key, second, term, None).await?;
    println!("process one loads; process two is told {reply:?}");
    assert!(matches!(reply, LeaseReply::Busy { .. }));

    // Process one has read the source; then process two changes it, and removes the key.
    two.remove(&key).await?;
    let reply = one.put_leased(&key, first, put("the old name")).await?;
    println!("what process one has loaded is refused: {reply:?}");
    assert_eq!(reply, PutReply::Absent);

    let third = Token::draw(&entropy);
    two.get_or_lease(&key, third, term, None).await?;
    assert_eq!(two.put_leased(&key, third, put("Ada")).await?, PutReply::Stored);

    // Expired, not removed: it is there in case a load fails, and one caller may load.
    one.expire(&key, Duration::from_secs(30)).await?;
    match one.get_or_lease(&key, Token::draw(&entropy), term, None).await? {
        LeaseReply::Lease { stale: Some(old) } => {
            println!("process one reloads and may serve {:?}", old.payload)
        }
        other => panic!("the value was expired: {other:?}"),
    }
    Ok(())
}
