//! Removals and tags over several servers.

use std::time::Duration;

use cachalot::ring::SlotRing;
use cachalot::{Failover, Shard, Sharded, TokioSpawn};
use cachalot_core::{
    Backend, Depth, Entropy, Key, LeaseBackend, ManualClock, Nonce, Put, TagBackend, TagToken, Token,
};
use cachalot_testkit::{Fault, Faulty, ModelBackend, Operation};

use super::Scene;

const HOUR: Duration = Duration::from_secs(3600);
const OVERLAP: Duration = Duration::from_secs(10);

fn shard(name: &str, server: &Faulty) -> Shard<Faulty> {
    Shard::new(name, server.clone())
}

/// `one` alone, going over to `other` alone: every key moves. And it is the other that is read.
fn moved(one: &Faulty, other: &Faulty) -> Sharded<Faulty> {
    let time = ManualClock::new();
    let builder = Sharded::builder(SlotRing::new, TokioSpawn).shard(shard("one", one)).clock(time.clock());
    let tier = builder.build().unwrap();
    tier.change([shard("other", other)], OVERLAP).unwrap();
    time.advance(OVERLAP);
    tier
}

fn servers() -> [Faulty; 2] {
    [(); 2].map(|()| Faulty::new(ModelBackend::new(ManualClock::new().clock())))
}

/// One of two servers that may hold the key does not take its removal: then it is not done.
pub(super) fn a_removal_that_one_server_misses() -> Scene {
    Box::pin(async {
        let [one, other] = servers();
        let builder = Sharded::builder(SlotRing::new, TokioSpawn)
            .shard(shard("one", &one))
            .shard(shard("other", &other));
        let tier = builder.failover(Failover::NextNode { ttl: HOUR }).build().unwrap();
        other.next_of(Operation::Remove, Fault::Refuse);
        tier.remove(&Key::new("users:1")).await.is_err() && tier.remove(&Key::new("users:1")).await.is_ok()
    })
}

/// What the old owner holds while the new one is read is gone too: others still read there.
pub(super) fn a_removal_during_a_move() -> Scene {
    Box::pin(async {
        let [one, other] = servers();
        let tier = moved(&one, &other);
        let (key, entropy) = (Key::new("users:1"), Entropy::seeded(1));
        let (token, nonce) = (Token::draw(&entropy), Nonce::draw(&entropy));
        one.get_or_lease(&key, token, HOUR, None).await.unwrap();
        one.put_leased(&key, token, Put { payload: "old".into(), nonce, ttl: HOUR }).await.unwrap();
        tier.remove(&key).await.unwrap();
        one.get(&key).await.unwrap().is_none()
    })
}

/// What one server says a tag stands at is not what another one says.
pub(super) fn a_tag_during_a_move() -> Scene {
    Box::pin(async {
        let [one, other] = servers();
        let tier = moved(&one, &other);
        let (names, fresh) = ([Key::new("users#red")], [TagToken::draw(&Entropy::seeded(1))]);
        tier.rotate_tags(&names, &fresh, Depth::Remove, HOUR).await.unwrap();
        let (here, there) = (one.tag_tokens(&names).await.unwrap(), other.tag_tokens(&names).await.unwrap());
        // A token that is not there at all has not been rotated.
        here[0] != there[0] && there[0].is_some()
    })
}
