//! How processes reach the shards: one by itself, several by a ring.

use std::sync::Arc;

use cachalot::ring::{Failover, Health, Placement, Shard, Sharded, SlotRing};
use cachalot_core::{Backend, Clock, Entropy, Key};

use super::life::Life;
use super::millis;

/// A bit for each.
pub(super) type Shards = u8;

/// The same in all processes of a world.
#[derive(Debug)]
pub(super) struct Routes {
    /// Of several shards.
    ring: Option<SlotRing>,
    copies: usize,
    failover: Failover,
}

/// How long a shard keeps what it stores in place of another.
const STAND_IN: Failover = Failover::NextNode { ttl: millis(400) };

impl Routes {
    /// To `shards`, whose names differ from world to world, and with them who has which key.
    pub(super) fn draw(seed: u64, shards: usize, lots: &Entropy) -> Self {
        let names = (0..shards).map(|shard| format!("shard {shard} of {seed}"));
        let ring = (shards > 1).then(|| SlotRing::new(names).unwrap());
        let copies = 1 + (lots.draw_u64() % 2) as usize;
        let failover = if lots.draw_u64().is_multiple_of(2) { Failover::Miss } else { STAND_IN };
        Self { ring, copies, failover }
    }

    pub(super) fn are_one(&self) -> bool {
        self.ring.is_none()
    }

    /// Whether `shards` are all that have to take what ends `name`.
    pub(super) fn reaches_all(&self, name: &Key, shards: Shards) -> bool {
        let Some(ring) = &self.ring else { return true };
        let width = self.copies + usize::from(self.failover != Failover::Miss);
        ring.owners(name.as_bytes(), width).iter().all(|shard| shards & 1 << shard != 0)
    }

    /// The shared tier as who has these `ways` to the shards reaches it.
    pub(super) fn tier<B: Backend>(
        &self,
        mut ways: Vec<B>,
        life: Life,
        clock: Clock,
        lots: Entropy,
    ) -> Arc<dyn Backend> {
        let Some(ring) = &self.ring else { return Arc::new(ways.remove(0)) };
        let shards = ring.nodes().iter().zip(ways).map(|(node, way)| Shard::new(node.name(), way));
        // A world is short: who has failed twice is out, and soon back.
        let health = Health::default().failures(2).probes(1).pause(millis(20), millis(80));
        let tier = Sharded::builder(SlotRing::new, life)
            .shards(shards)
            .health(health)
            .failover(self.failover)
            .copies(self.copies)
            .clock(clock)
            .entropy(lots)
            .build();
        Arc::new(tier.unwrap())
    }
}
