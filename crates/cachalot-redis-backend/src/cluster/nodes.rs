//! The nodes of a cluster, and the way from a key to its own.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::{Clock, Entropy, Key, Result};
use futures_util::future::{FutureExt, select_ok};
use tokio::time::timeout;

use super::map::Map;
use super::slot::slot;
use crate::RedisBackend;
use crate::config::{Address, RedisBuilder};
use crate::fault::Fault;
use crate::name::name;

/// How often one command is sent on to where it was sent by a node.
const HOPS: u32 = 8;
/// The shortest time between two looks at the map because of nodes that are away, ms.
const LOOK_AGAIN_MS: u64 = 100;

/// What all handles of a cluster share.
pub(super) struct Nodes {
    settings: RedisBuilder,
    seeds: Vec<Address>,
    key_prefix: Vec<u8>,
    pub(super) max_payload: usize,
    pub(super) deadline: Duration,
    clock: Clock,
    state: Mutex<State>,
    /// Held by the one that looks at the map.
    looking: tokio::sync::Mutex<()>,
    is_suspect: AtomicBool,
    looked_at_ms: AtomicU64,
    /// How often a node was met in another run, or another one in its place.
    incarnation: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    map: Option<Arc<Map>>,
    nodes: HashMap<Address, Node>,
}

#[derive(Clone)]
struct Node {
    backend: RedisBackend,
    /// For what is on its way to it.
    asking: RedisBackend,
}

impl Nodes {
    pub(super) fn new(settings: RedisBuilder, others: &[String]) -> Result<Self> {
        let mut seeds = vec![settings.address()?];
        for url in others {
            seeds.push(settings.clone().with_url(url).address()?);
        }
        let incarnation = Arc::<AtomicU64>::default();
        let settings = settings.counting(incarnation.clone());
        let (deadline, key_prefix, max_payload, clock) = settings.for_cluster();
        // What is wrong with the settings is told now.
        settings.at(seeds[0].clone()).connect_lazy()?;
        Ok(Self {
            settings,
            seeds,
            key_prefix,
            max_payload,
            incarnation,
            deadline,
            clock,
            state: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            is_suspect: AtomicBool::new(false),
            looked_at_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn seed(&self) -> &Address {
        &self.seeds[0]
    }

    pub(super) fn entropy(&self) -> &Entropy {
        self.settings.entropy_given()
    }

    pub(super) fn key_prefix(&self) -> &[u8] {
        &self.key_prefix
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    pub(super) fn slot_of(&self, key: &Key) -> u16 {
        slot(&name(&self.key_prefix, key))
    }

    /// Sends `command` to the node that has `key`, and on from there.
    pub(super) async fn route<T, F>(
        &self,
        key: &Key,
        command: impl Fn(RedisBackend) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        self.route_slot(self.slot_of(key), command).await
    }

    pub(super) async fn route_slot<T, F>(
        &self,
        slot: u16,
        command: impl Fn(RedisBackend) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        self.route_within(self.deadline, slot, command).await
    }

    /// As [`route_slot`](Nodes::route_slot), with a time of its own.
    pub(super) async fn route_within<T, F>(
        &self,
        time: Duration,
        slot: u16,
        command: impl Fn(RedisBackend) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        self.within(time, async {
            let mut address = self.owner(slot).await?;
            let mut node = self.node(&address)?.backend;
            for _ in 0..HOPS {
                match command(node).await {
                    Err(Fault::Moved) => {
                        self.look(&address).await?;
                        address = self.owner(slot).await?;
                        node = self.node(&address)?.backend;
                    }
                    // Once, to there; the map stays as it is.
                    Err(Fault::Ask { to }) => node = self.node(&self.told(&to, &address))?.asking,
                    // It has not been sent: perhaps another node has the slot now.
                    Err(fault @ Fault::Down { .. }) => {
                        self.suspect();
                        let owner = self.owner(slot).await?;
                        if owner == address {
                            return Err(fault);
                        }
                        address = owner;
                        node = self.node(&address)?.backend;
                    }
                    outcome => {
                        self.note(&outcome);
                        return outcome;
                    }
                }
            }
            Err(Fault::Moved)
        })
        .await
    }

    pub(super) async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.within(self.deadline, work).await
    }

    async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        timeout(time, work).await.unwrap_or_else(|_| {
            self.suspect();
            Err(Fault::Timeout(time))
        })
    }

    /// A node that breaks off or keeps silent may have lost its slots.
    pub(super) fn note<T>(&self, outcome: &Result<T, Fault>) {
        if matches!(outcome, Err(Fault::Broken(_) | Fault::Timeout(_) | Fault::Down { .. } | Fault::Moved)) {
            self.suspect();
        }
    }

    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }

    async fn owner(&self, slot: u16) -> Result<Address, Fault> {
        let nobody = || Fault::Broken(String::from("no node of the cluster has the key's slot"));
        self.map().await?.owner(slot).cloned().ok_or_else(|| {
            self.suspect();
            nobody()
        })
    }

    /// The map: the one there is, unless there is reason to look again and nobody does so yet.
    pub(super) async fn map(&self) -> Result<Arc<Map>, Fault> {
        let Some(known) = self.lock().map.clone() else { return self.look_around().await };
        if !self.is_due() {
            return Ok(known);
        }
        match self.looking.try_lock() {
            Ok(_looking) => self.ask_around().await,
            Err(_) => Ok(known),
        }
    }

    fn is_due(&self) -> bool {
        let looked_at = self.looked_at_ms.load(Ordering::Relaxed);
        self.is_suspect.load(Ordering::Relaxed)
            && self.clock.now().as_millis() >= looked_at.saturating_add(LOOK_AGAIN_MS)
    }

    /// Another look at the map, or that of whoever was looking.
    pub(super) async fn look_around(&self) -> Result<Arc<Map>, Fault> {
        let before = self.lock().map.clone();
        let _looking = self.looking.lock().await;
        let known = self.lock().map.clone();
        if let Some(known) = known
            && !before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &known))
        {
            return Ok(known);
        }
        self.ask_around().await
    }

    /// Asks all primaries that are known, at once; if none gives a map in half the time there is, the seeds. Only
    /// under `looking`.
    async fn ask_around(&self) -> Result<Arc<Map>, Fault> {
        self.looked_at_ms.store(self.clock.now().as_millis(), Ordering::Relaxed);
        let known = self.lock().map.as_ref().map_or_else(Vec::new, |map| map.primaries());
        let map = match timeout(self.deadline / 2, self.first_map(&known)).await {
            Ok(Ok(map)) => map,
            _ => self.first_map(&self.seeds).await?,
        };
        Ok(self.learn(map))
    }

    /// The map of whichever of `nodes` gives one first.
    async fn first_map(&self, nodes: &[Address]) -> Result<Map, Fault> {
        if nodes.is_empty() {
            return Err(Fault::Garbled("the cluster has no nodes"));
        }
        let read = |address| async move { Map::read(&self.node(address)?.backend, address).await }.boxed();
        select_ok(nodes.iter().map(read)).await.map(|(map, _)| map)
    }

    /// Looks at the map of the node at `address`, which knows better.
    async fn look(&self, address: &Address) -> Result<(), Fault> {
        let map = Map::read(&self.node(address)?.backend, address).await?;
        self.learn(map);
        Ok(())
    }

    fn learn(&self, map: Map) -> Arc<Map> {
        let map = Arc::new(map);
        let mut state = self.lock();
        let now = map.primaries();
        let is_gone = |owner: &Address| !now.contains(owner);
        if state.map.as_ref().is_some_and(|before| before.primaries().iter().any(is_gone)) {
            // Another one has taken over all that it had, perhaps without having heard of everything.
            self.incarnation.fetch_add(1, Ordering::AcqRel);
        }
        state.map = Some(map.clone());
        self.is_suspect.store(false, Ordering::Relaxed);
        map
    }

    pub(super) fn backend(&self, address: &Address) -> Result<RedisBackend, Fault> {
        Ok(self.node(address)?.backend)
    }

    fn node(&self, address: &Address) -> Result<Node, Fault> {
        let mut state = self.lock();
        if let Some(node) = state.nodes.get(address) {
            return Ok(node.clone());
        }
        let settings = self.settings.at(address.clone());
        let wrong = |_| Fault::Garbled("the cluster names a node that cannot be reached by these settings");
        let backend = settings.clone().connect_lazy().map_err(wrong)?;
        let asking = settings.asking().connect_lazy().map_err(wrong)?;
        let node = Node { backend, asking };
        state.nodes.insert(address.clone(), node.clone());
        Ok(node)
    }

    /// The address in `text`, as a node at `from` says it.
    fn told(&self, text: &str, from: &Address) -> Address {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let host = if host.is_empty() { from.host.clone() } else { host.to_owned() };
        Address { host, port: port.parse().unwrap_or(from.port) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
