//! Three servers behind one tier: one dies, a fourth one comes.
//!
//! `cargo run -p cachalot-ring --features backend --example sharded`

use std::time::Duration;

use cachalot_core::{
    Backend, BoxFuture, Clock, Entropy, ErrorKind, Key, LeaseReply, ManualClock, Nonce, Put, Result, Spawn,
    Token,
};
use cachalot_ring::{Shard, Sharded, SlotRing};
use cachalot_testkit::{Faulty, ModelBackend, block_on};

/// A service has a runtime for this: `cachalot::TokioSpawn`.
struct Threads;

impl Spawn for Threads {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        std::thread::spawn(|| block_on(task));
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// What a cache does on a miss.
async fn load(tier: &impl Backend, key: &Key) -> Result<()> {
    let Some(leases) = tier.leases() else { return Ok(()) };
    let (token, nonce) = (Token::draw(&Entropy::thread()), Nonce::draw(&Entropy::thread()));
    if let LeaseReply::Lease { .. } = leases.get_or_lease(key, token, HOUR, None).await? {
        leases.put_leased(key, token, Put { payload: "from the database".into(), nonce, ttl: HOUR }).await?;
    }
    Ok(())
}

async fn found(tier: &impl Backend, keys: &[Key]) -> usize {
    let records = tier.get_many(keys).await;
    records.into_iter().filter(|record| matches!(record, Ok(Some(_)))).count()
}

async fn run(time: &ManualClock, clock: Clock) -> Result<()> {
    let server = |_| Faulty::new(ModelBackend::new(clock.clone()));
    let servers: Vec<Faulty> = (1..=4).map(server).collect();
    let shard = |n: usize| Shard::new(format!("10.0.0.{n}:6379"), servers[n - 1].clone());
    let tier =
        Sharded::builder(SlotRing::new, Threads).shards((1..=3).map(shard)).clock(clock.clone()).build()?;

    let keys: Vec<Key> = (0..3_000).map(|n| Key::new(format!("users:{n}"))).collect();
    for key in &keys {
        load(&tier, key).await?;
    }
    println!("3 servers: {} of {} keys are there", found(&tier, &keys).await, keys.len());

    // One dies. After a few failures it is ejected: its keys are misses, and cost nothing.
    servers[0].down();
    let mut its_keys = keys.iter().filter(|key| tier.owners(key) == ["10.0.0.1:6379"]);
    for _ in 0..5 {
        found(&tier, &keys).await;
    }
    println!("one is dead: {} are there, {:?}", found(&tier, &keys).await, tier.health()[0]);
    if let Some(key) = its_keys.next() {
        let refused = tier.remove(key).await.is_err_and(|error| error.kind() == ErrorKind::Unavailable);
        println!("a removal of one of its keys is not acknowledged: {refused}");
    }

    // It is gone for good, and a new one takes its place: read as before for ten seconds, then anew.
    let overlap = Duration::from_secs(10);
    tier.change((2..=4).map(shard), overlap)?;
    time.advance(overlap);
    println!("a new one has come: {} are there", found(&tier, &keys).await);
    time.advance(overlap);
    for key in &keys {
        load(&tier, key).await?;
    }
    println!("and loaded anew: {} are there, changing: {}", found(&tier, &keys).await, tier.is_changing());
    Ok(())
}

fn main() -> Result<()> {
    let time = ManualClock::new();
    block_on(run(&time, time.clock()))
}
