//! Who writes, who reads, and who complains.

use std::sync::Arc;
use std::time::Duration;

use cachalot::{Cache, Inserted, Memory, ReadThrough, Source, WriteError};
use cachalot_core::Entropy;
use integration_tests::connect;
use tokio::time::sleep;

use super::process::Member;
use super::tally::Tally;
use super::{Fire, HOLD_TERM, KEYS};

pub(super) async fn write(fire: Arc<Fire>, member: Arc<Member>, lots: Entropy) {
    while !fire.tally.is_over() {
        if !fire.tally.is_storming() {
            sleep(Duration::from_millis(5)).await;
            continue;
        }
        let (key, value) = (skewed(&lots), fire.tally.new_value());
        // Few are of two keys.
        let keys = if lots.draw_u64().is_multiple_of(8) { vec![key, (key + 1) % KEYS] } else { vec![key] };
        let written = match keys[..] {
            [key] => member.users.put(key, value.clone()).await.map(|kept| vec![kept]),
            _ => member.users.put_many(keys.iter().map(|key| (*key, value.clone()))).await,
        };
        match written {
            Ok(kept) => {
                member.flaky.answered();
                for (key, kept) in keys.into_iter().zip(kept) {
                    returned(&fire, &member, key, &value, kept).await;
                }
            }
            Err(WriteError::Source(_)) => fire.tally.refused.up(),
            Err(_) => {
                member.flaky.answered();
                fire.tally.unknown.up();
            }
        }
        sleep(Duration::from_millis(lots.draw_u64() % 60)).await;
    }
}

async fn returned(fire: &Fire, member: &Member, key: u64, value: &str, kept: Inserted) {
    let version = version(fire, key, value).await;
    member.floors.raise(key, version);
    if kept == Inserted::Deferred {
        return fire.tally.deferred.up();
    }
    fire.tally.floors.raise(key, version);
    if kept == Inserted::Stored { fire.tally.stored.up() } else { fire.tally.dropped.up() }
}

pub(super) async fn read(fire: Arc<Fire>, member: Arc<Member>, lots: Entropy) {
    while !fire.tally.is_over() {
        let key = lots.draw_u64() % KEYS;
        let floor = member.floors.of(key);
        match member.users.get(&key).await {
            Ok(Some(seen)) => {
                fire.tally.reads.up();
                if seen.tier() == cachalot::Tier::Memory {
                    fire.tally.from_memory.up();
                }
                judge(&fire, "a process", key, &seen, floor).await;
            }
            Ok(None) => complain_of_nothing(&fire.tally, key, floor),
            Err(_) => fire.tally.failed_reads.up(),
        }
        sleep(Duration::from_millis(1 + lots.draw_u64() % 8)).await;
    }
}

/// Reads as one with nothing in memory, again and again.
pub(super) async fn read_fresh(fire: Arc<Fire>, reader: usize) {
    let lots = Entropy::seeded(fire.seed ^ (1_000 + reader as u64));
    while !fire.tally.is_over() {
        let key = lots.draw_u64() % KEYS;
        let floor = fire.tally.floors.of(key);
        let cache = fresh(&fire).await;
        let seen = match lots.draw_u64() % 2 {
            0 => cache.get(&key).await,
            _ => match ReadThrough::new(cache, fire.source.clone()).get(&key).await {
                Ok(None) => {
                    complain_of_nothing(&fire.tally, key, floor);
                    None
                }
                seen => seen.ok().flatten(),
            },
        };
        if let Some(seen) = seen {
            fire.tally.fresh_reads.up();
            judge(&fire, "one with nothing in memory", key, &seen, floor).await;
        }
        sleep(Duration::from_millis(1 + lots.draw_u64() % 20)).await;
    }
}

async fn judge(fire: &Fire, who: &str, key: u64, seen: &str, floor: u64) {
    let version = version(fire, key, seen).await;
    if version < floor {
        fire.tally.complain(format!(
            "{who} reads {seen} of key {key}, write {version}, after {floor} has returned"
        ));
    }
}

/// No key is ever deleted.
fn complain_of_nothing(tally: &Tally, key: u64, floor: u64) {
    if floor > 0 {
        tally.complain(format!("key {key} is absent after write {floor} has returned"));
    }
}

/// A process that has just been started.
pub(super) async fn fresh(fire: &Fire) -> Cache<u64, String> {
    let shared = fire.outside.get_or_init(|| async { Arc::new(connect(&fire.server).await) }).await;
    let builder = Cache::builder("users").memory(Memory::entries(10)).backend(shared.clone());
    builder.hold_term(HOLD_TERM).replay_window(Duration::ZERO).build().unwrap()
}

pub(super) async fn row(fire: &Fire, key: u64) -> String {
    fire.source.load(&key).await.unwrap().unwrap_or_default()
}

async fn version(fire: &Fire, key: u64, value: &str) -> u64 {
    fire.source.version_of(key, value).await.unwrap().unwrap_or(0)
}

/// The last keys seldom.
fn skewed(lots: &Entropy) -> u64 {
    let draw = || lots.draw_u64() % KEYS;
    draw().min(draw())
}
