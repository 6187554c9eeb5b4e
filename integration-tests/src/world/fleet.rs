//! The processes of a world, and how their caches are built.

use std::sync::Arc;
use std::time::Duration;

use cachalot::RefreshMode;
use cachalot_core::{Backend, Clock, Entropy, mutant};
use cachalot_strategies::{Cache, CacheBuilder, OnDeserted};

use super::air::{Ears, Voice};
use super::life::{Act, Life};
use super::net::Net;
use super::plan::{Early, Habits};
use super::{HOLD_TERM, HOUR, LEASE_TERM, NAME, NODES, Process, SCHEMA, World, millis};
use crate::L1;

const HARD_TIMEOUT: Duration = millis(200);
pub(super) const HEARTBEAT: Duration = millis(250);
const QUARTER: Duration = millis(900_000);

impl<S: L1> World<S> {
    /// The process of `node`; started again if it has died.
    pub(super) fn process(&self, node: usize) -> Arc<Process<S>> {
        let mut nodes = self.nodes.lock().unwrap();
        if nodes[node].life.is_dead() {
            nodes[node] = self.start(nodes[node].id + NODES);
        }
        nodes[node].clone()
    }

    pub(super) fn start(&self, id: usize) -> Arc<Process<S>> {
        let lots = self.lots("process", id as u64);
        let life = Life::with(Act::chores(self.lots("chores", id as u64), &self.weather));
        let chronicle = self.chronicle.clone();
        let seed = if mutant!(CountsTokens) { 0 } else { lots.draw_u64() };
        let clock = self.clock_of(&lots);
        let tier = self.tier(&life, clock.clone(), id);
        let builder = self.builder(life.clone(), tier, clock, seed);
        let builder = match self.air.clone() {
            Some(air) => {
                let lots = self.lots("air", id as u64);
                let voice = Voice { air, of: id, lots, chronicle: chronicle.clone() };
                builder.bus(voice).heartbeat(HEARTBEAT).observer(Ears { of: id, chronicle })
            }
            None => builder,
        };
        let cache = builder.build().unwrap();
        Arc::new(Process { id, cache, life })
    }

    /// The shared tier as the process `id` reaches it.
    fn tier(&self, life: &Life, clock: Clock, id: usize) -> Arc<dyn Backend> {
        let net = |(shard, server)| {
            let (routes, life, log) = (self.routes.clone(), life.clone(), self.log.clone());
            Net { server, shard, routes, life, log, chronicle: self.chronicle.clone() }
        };
        let nets = self.server.backends().into_iter().enumerate().map(net).collect();
        let lots = self.lots("sharded tier", id as u64);
        let tier = self.routes.tier::<Net>(nets, life.clone(), clock, lots);
        self.tiers.lock().unwrap().push(tier.clone());
        tier
    }

    /// Each process has a clock of its own, off by up to a quarter of an hour.
    fn clock_of(&self, lots: &Entropy) -> Clock {
        let (clock, ahead) = (self.clock.clone(), millis(lots.draw_u64() % 1_800_000));
        Clock::custom(move || clock.now().back(QUARTER) + ahead)
    }

    pub(super) fn builder(
        &self,
        life: Life,
        backend: impl Backend,
        clock: Clock,
        seed: u64,
    ) -> CacheBuilder<u64, String, S> {
        let builder = Cache::builder(NAME)
            .memory(S::config())
            .backend(backend)
            // No server here forgets a part of what it has: a restart loses all.
            .replay_window(Duration::ZERO)
            .memory_ttl(self.memory_ttl)
            .schema(SCHEMA)
            .clock(clock)
            .entropy(Entropy::seeded(seed))
            .spawn(life)
            .stale_while_revalidate(millis(100))
            .stale_if_error(millis(HOUR))
            .hard_timeout(HARD_TIMEOUT)
            .lease_term(LEASE_TERM)
            .hold_term(HOLD_TERM);
        self.habits.settle(builder)
    }
}

impl Habits {
    fn settle<S: L1>(self, builder: CacheBuilder<u64, String, S>) -> CacheBuilder<u64, String, S> {
        let builder = if self.soft_timeout { builder.soft_timeout(millis(10)) } else { builder };
        let builder = match self.early {
            Early::Never => builder,
            Early::Ratio => builder.early_refresh(0.3),
            Early::XFetch => builder.xfetch(1.0),
        };
        let builder = if self.is_inline { builder.refresh_mode(RefreshMode::Inline) } else { builder };
        let builder =
            if self.error_backoff { builder.error_backoff(millis(20), millis(100)) } else { builder };
        let builder = if self.cancels { builder.on_deserted(OnDeserted::Cancel) } else { builder };
        // Shorter than a loader may hang, and longer than its callers wait for it.
        let builder = if self.goes_on { builder.max_flight_age(LEASE_TERM) } else { builder };
        if self.keeps_absences { builder.negative_ttl(millis(HOUR)) } else { builder }
    }
}
