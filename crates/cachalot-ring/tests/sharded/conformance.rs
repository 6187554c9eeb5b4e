//! Every sentence of the backends' contract, over shards.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Backend, ManualClock};
use cachalot_ring::{Failover, Ketama, Rendezvous, Shard, Sharded, ShardedBuilder, SlotRing};
use cachalot_testkit::{BackendSubject, Lacking, ModelBackend, backend_suite};
use futures_util::future::LocalBoxFuture;

use crate::support::{Tasks, name};

fn shards(count: usize, time: &ManualClock) -> Vec<Shard<ModelBackend>> {
    (0..count).map(|at| Shard::new(name(at), ModelBackend::new(time.clock()))).collect()
}

fn builder(count: usize, time: &ManualClock) -> ShardedBuilder<ModelBackend> {
    let builder = Sharded::builder(SlotRing::new, Tasks::default());
    builder.shards(shards(count, time)).clock(time.clock()).longest_life(Duration::MAX)
}

/// A subject of what `make` builds.
fn subject<B: Backend>(make: impl FnOnce(&ManualClock) -> Sharded<B>) -> BackendSubject {
    let time = ManualClock::new();
    BackendSubject::manual(make(&time), time)
}

/// One type for all, since each sentence is compiled for every type of these.
type Make = fn() -> LocalBoxFuture<'static, BackendSubject>;

macro_rules! suites {
    ($($module:ident: $make:expr;)*) => {$(
        backend_suite!($module, {
            let make: Make = || Box::pin(async { subject($make) });
            make
        });
    )*};
}

suites! {
    three_shards: |time| builder(3, time).build().unwrap();
    one_shard: |time| builder(1, time).build().unwrap();
    by_ketama: |time| {
        let builder = Sharded::builder(Ketama::new, Tasks::default());
        builder.shards(shards(3, time)).clock(time.clock()).build().unwrap()
    };
    shards_of_an_era: |time| {
        let builder = Sharded::builder(Rendezvous::new, Tasks::default()).clock(time.clock());
        builder.shards(shards(3, time).into_iter().map(|shard| shard.era(3))).build().unwrap()
    };
    with_stand_ins: |time| {
        builder(3, time).failover(Failover::NextNode { ttl: Duration::MAX }).build().unwrap()
    };
    two_copies: |time| builder(3, time).copies(2).build().unwrap();
    during_a_move: |time| {
        let tier = builder(3, time).build().unwrap();
        tier.change(shards(5, time), Duration::from_secs(1_000_000)).unwrap();
        tier
    };
    after_a_move: |time| {
        let tier = builder(3, time).build().unwrap();
        tier.change(shards(5, time), Duration::from_millis(1)).unwrap();
        time.advance(Duration::from_millis(1));
        assert!(tier.is_changing());
        tier
    };
    without_leases_and_tags: |time| {
        let shards = shards(3, time).into_iter().enumerate();
        let shard = |(at, _)| Shard::new(name(at), Lacking::leases_and_tags(ModelBackend::new(time.clock())));
        Sharded::builder(SlotRing::new, Tasks::default()).shards(shards.map(shard)).build().unwrap()
    };
    erased: |time| {
        let shard = |at| Shard::new(name(at), Arc::new(ModelBackend::new(time.clock())) as Arc<dyn Backend>);
        Sharded::builder(SlotRing::new, Tasks::default())
            .shards((0..3).map(shard))
            .clock(time.clock())
            .build()
            .unwrap()
    };
}
