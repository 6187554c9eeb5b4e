//! The ways of a cluster for what is not a backend's.

use std::future::Future;
use std::time::Duration;

use cachalot_core::{Entropy, Key};

use super::RedisCluster;
use super::slot::slot;
use crate::RedisBackend;
use crate::fault::Fault;

impl RedisCluster {
    /// Sends `command` to the node that has what is called `name`, and on from there.
    pub(crate) async fn route_name<T, F>(
        &self,
        name: &[u8],
        command: impl Fn(RedisBackend) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        self.nodes.route_slot(slot(name), command).await
    }

    /// As [`route_name`](RedisCluster::route_name), for a command that may wait in the server for `wait`.
    pub(crate) async fn route_waiting<T, F>(
        &self,
        name: &[u8],
        wait: Duration,
        command: impl Fn(RedisBackend) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        self.nodes.route_within(wait.saturating_add(self.nodes.deadline), slot(name), command).await
    }

    /// Asks `all` of each node about its own of `keys`; what is not there any more is asked for by `one`. The outcomes
    /// in the order of `keys`.
    pub(crate) async fn each_key<T, A, O>(
        &self,
        keys: &[Key],
        all: impl Fn(RedisBackend, Vec<Key>) -> A + Send + Sync,
        one: impl Fn(RedisBackend, Key) -> O + Send + Sync,
    ) -> Vec<Result<T, Fault>>
    where
        T: Send,
        A: Future<Output = Result<Vec<Result<T, Fault>>, Fault>> + Send,
        O: Future<Output = Result<T, Fault>> + Send,
    {
        self.nodes.each(keys, usize::MAX, all, one).await
    }

    pub(crate) fn node(&self) -> &str {
        &self.name
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        self.nodes.entropy()
    }

    pub(crate) fn key_prefix(&self) -> &[u8] {
        self.nodes.key_prefix()
    }

    pub(crate) fn max_payload(&self) -> usize {
        self.nodes.max_payload
    }
}
