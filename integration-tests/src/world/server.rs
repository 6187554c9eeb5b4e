//! The shared tier of a world, and what can happen to it.

use std::sync::Arc;

use cachalot_core::{Backend, Clock};
use cachalot_testkit::ModelBackend;

use super::routes::Shards;

/// The shared tier of a world: one server, or several.
pub struct Server {
    shards: Vec<Shard>,
}

struct Shard {
    backend: Arc<dyn Backend>,
    /// Restarts it empty.
    lose: Box<dyn Fn() + Send + Sync>,
    /// Loses what it knows of tags.
    lose_tags: Box<dyn Fn() + Send + Sync>,
}

/// Of a server that is sharded.
const SHARDS: usize = 3;

impl Server {
    /// One that never restarts.
    pub fn lasting(backend: impl Backend) -> Self {
        let shard = Shard { backend: Arc::new(backend), lose: Box::new(|| ()), lose_tags: Box::new(|| ()) };
        Self { shards: vec![shard] }
    }

    /// The reference, as `spoil` leaves it.
    pub fn model<B: Backend>(clock: Clock, spoil: impl FnOnce(ModelBackend) -> B) -> Self {
        Self { shards: vec![Shard::model(clock, spoil)] }
    }

    /// Several of the reference, which each process reaches by a ring.
    pub fn sharded(clock: Clock) -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::model(clock.clone(), |model| model)).collect() }
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn backends(&self) -> Vec<Arc<dyn Backend>> {
        self.shards.iter().map(|shard| shard.backend.clone()).collect()
    }

    /// Whom the outage of this number takes away: one in four all, the others one.
    pub(super) fn struck(&self, number: u64) -> Shards {
        let count = self.shards.len();
        if number % 4 == 3 { (1 << count) - 1 } else { 1 << (number as usize % count) }
    }

    /// One of them restarts empty, by this number.
    pub(super) fn lose(&self, number: u64) {
        (self.shards[number as usize % self.shards.len()].lose)();
    }

    /// All of them lose what they know of tags.
    pub(super) fn lose_tags(&self) {
        self.shards.iter().for_each(|shard| (shard.lose_tags)());
    }
}

impl Shard {
    fn model<B: Backend>(clock: Clock, spoil: impl FnOnce(ModelBackend) -> B) -> Self {
        let model = ModelBackend::new(clock);
        let backend = Arc::new(spoil(model.clone()));
        let evicting = model.clone();
        Self {
            backend,
            lose: Box::new(move || model.lose_everything()),
            lose_tags: Box::new(move || evicting.lose_tags()),
        }
    }
}
