//! A cluster of three: `cargo run --example cluster`.

use std::time::Duration;

use cachalot_core::{
    Backend, Entropy, Key, LeaseBackend, Namespace, Nonce, Pattern, Put, Result, SweepCursor, Token,
};
use cachalot_redis_backend::Redis;
use cachalot_testkit::RedisCluster;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let servers = RedisCluster::start(3);
    let urls = servers.urls();
    let settings = Redis::builder(&urls[0]).deadline(Duration::from_secs(10));
    let cluster = settings.connect_cluster(&urls[1..]).await?;

    let (entropy, ttl) = (Entropy::thread(), Duration::from_secs(60));
    let keys: Vec<Key> = (0..100).map(|id| Key::new(format!("users:{id}"))).collect();
    for key in &keys {
        let token = Token::draw(&entropy);
        cluster.get_or_lease(key, token, ttl, None).await?;
        let put = Put { payload: "Ann".into(), nonce: Nonce::draw(&entropy), ttl };
        cluster.put_leased(key, token, put).await?;
    }
    let found = cluster.get_many(&keys).await.into_iter().flatten().flatten().count();
    println!("{found} of {} are there", keys.len());

    let users = Pattern::any().within(&Namespace::new("users")?);
    let (mut removed, mut next) = (0, Some(SweepCursor::START));
    while let Some(from) = next {
        let part = cluster.sweep(&users, &from).await?;
        println!("removed {} of one node", part.removed);
        (removed, next) = (removed + part.removed, part.next);
    }
    assert_eq!(removed, 100);
    Ok(())
}
