//! Fleets of model servers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachalot_core::{
    Backend, BoxFuture, Entropy, Key, LeaseReply, ManualClock, Nonce, Put, PutReply, Spawn, Token,
};
use cachalot_ring::{Shard, Sharded, ShardedBuilder, SlotRing};
use cachalot_testkit::{Faulty, ModelBackend};

/// Tasks that run when the test says so.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<VecDeque<BoxFuture<'static, ()>>>>);

impl Tasks {
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) async fn run(&self) {
        while let Some(task) = self.pop() {
            task.await;
        }
    }

    /// As a runtime that ends.
    pub(crate) fn forget(&self) {
        while self.pop().is_some() {}
    }

    fn pop(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().unwrap().pop_front()
    }
}

impl Spawn for Tasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock().unwrap().push_back(task);
    }
}

/// Servers, and what one process sees of them.
pub(crate) struct Fleet {
    pub(crate) time: ManualClock,
    pub(crate) servers: Vec<ModelBackend>,
    /// The ways of the first process to them.
    pub(crate) ways: Vec<Faulty>,
    pub(crate) tasks: Tasks,
    pub(crate) entropy: Entropy,
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

impl Fleet {
    pub(crate) fn of(count: usize) -> Self {
        let time = ManualClock::new();
        let servers: Vec<ModelBackend> = (0..count).map(|_| ModelBackend::new(time.clock())).collect();
        let ways = servers.iter().map(|server| Faulty::new(server.clone())).collect();
        Self { time, servers, ways, tasks: Tasks::default(), entropy: Entropy::seeded(7) }
    }

    /// What a process is built of that sees the servers by `ways`.
    pub(crate) fn builder_by(&self, ways: &[Faulty]) -> ShardedBuilder<Faulty> {
        let shards = ways.iter().enumerate().map(|(at, way)| Shard::new(name(at), way.clone()));
        Sharded::builder(SlotRing::new, self.tasks.clone())
            .shards(shards)
            .clock(self.time.clock())
            .entropy(self.entropy.clone())
    }

    pub(crate) fn builder(&self) -> ShardedBuilder<Faulty> {
        self.builder_by(&self.ways)
    }

    /// Other ways to the same servers: another process.
    pub(crate) fn other_ways(&self) -> Vec<Faulty> {
        self.servers.iter().map(|server| Faulty::new(server.clone())).collect()
    }

    /// Asks for the value or the lease; a lease's token.
    pub(crate) async fn lease(&self, tier: &Sharded<Faulty>, key: &Key) -> Option<Token> {
        let token = Token::draw(&self.entropy);
        let reply = tier.leases().unwrap().get_or_lease(key, token, HOUR, None).await.unwrap();
        matches!(reply, LeaseReply::Lease { .. }).then_some(token)
    }

    pub(crate) fn put(&self, value: &str) -> Put {
        Put { payload: value.to_owned().into(), nonce: Nonce::draw(&self.entropy), ttl: HOUR }
    }

    pub(crate) async fn fill(&self, tier: &Sharded<Faulty>, key: &Key, value: &str) -> PutReply {
        let token = self.lease(tier, key).await.expect("a lease");
        tier.leases().unwrap().put_leased(key, token, self.put(value)).await.unwrap()
    }

    /// Which of the servers have a value under `key`.
    pub(crate) async fn holders(&self, key: &Key) -> Vec<usize> {
        let mut holders = Vec::new();
        for (at, server) in self.servers.iter().enumerate() {
            if server.get(key).await.unwrap().is_some() {
                holders.push(at);
            }
        }
        holders
    }

    /// The node that stands in for the owner of `key`.
    pub(crate) async fn next_of(&self, tier: &Sharded<Faulty>, key: &Key) -> usize {
        let before: Vec<usize> = (0..self.ways.len()).map(|at| self.calls(at)).collect();
        // Whatever it says: who is told of a removal is the owner and the one behind it.
        let _ = tier.remove(key).await;
        let owner = number(&tier.owners(key)[0]);
        (0..before.len()).find(|at| *at != owner && self.calls(*at) > before[*at]).unwrap()
    }

    pub(crate) fn calls(&self, at: usize) -> usize {
        self.ways[at].calls()
    }
}

pub(crate) fn name(at: usize) -> String {
    format!("10.0.0.{at}:6379")
}

/// The number in a name.
pub(crate) fn number(name: &str) -> usize {
    name.trim_start_matches("10.0.0.").trim_end_matches(":6379").parse().unwrap()
}

pub(crate) fn key(of: impl std::fmt::Display) -> Key {
    Key::new(format!("users:{of}"))
}

/// A key whose first owner is the server `at`.
pub(crate) fn key_at(tier: &Sharded<Faulty>, at: usize) -> Key {
    (0..).map(key).find(|key| tier.owners(key)[0] == name(at)).unwrap()
}

pub(crate) async fn read(tier: &Sharded<Faulty>, key: &Key) -> Option<String> {
    let record = tier.get(key).await.unwrap()?;
    Some(String::from_utf8(record.payload.to_vec()).unwrap())
}
