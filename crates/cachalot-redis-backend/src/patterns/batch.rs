//! Many values in one round trip.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use cachalot_core::{CacheKey, Key, Namespace, Result};
use redis::Cmd;

use super::coding::Coding;
use super::read;
use super::way::Way;
use crate::RedisBackend;
use crate::backend::millis;
use crate::link::Again;

/// Values of type `V` as plain strings, many at a time: one pipeline, one round trip, to each node of a cluster its own.
/// From [`RedisPatterns::batch`](super::RedisPatterns::batch).
///
/// Beside a cache, not in place of one: nothing here knows of invalidations, and what is read may be older than what is
/// being written.
pub struct Batch<V> {
    way: Way,
    namespace: Namespace,
    coding: Coding<V>,
}

impl<V: 'static> Batch<V> {
    pub(super) fn new(way: Way, namespace: Namespace, coding: Coding<V>) -> Self {
        Self { way, namespace, coding }
    }

    /// The values under `keys`, in their order; `None` where there is none. Each key has an outcome of its own. No keys
    /// are no round trip.
    ///
    /// # Errors
    /// Of each key, as [patterns](super#errors); [`ErrorKind::Decode`](cachalot_core::ErrorKind::Decode) if it holds no
    /// `V`.
    pub async fn get<K: CacheKey>(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let keys: Vec<Key> = keys.iter().map(|key| self.namespace.key(key)).collect();
        let command = |node: &RedisBackend, key: &Key| {
            let mut command = Cmd::new();
            command.arg("GET").arg(&*node.name(key));
            command
        };
        let found = self.way.each(&keys, command, Again::Once).await;
        let value = |(found, key): (Result<_, _>, &Key)| {
            let place = self.way.place(key.clone());
            let bytes = found.and_then(read::bytes);
            let bytes = bytes.map_err(|fault| self.way.error(fault, "redis batch get", &place))?;
            bytes.map(|bytes| self.coding.decode(&bytes, &self.way, &place)).transpose()
        };
        found.into_iter().zip(&keys).map(value).collect()
    }

    /// Sets all of `values` for `ttl`, each an outcome of its own in their order, and whatever was there before is gone:
    /// other types too. For less than a millisecond: removes. Of a key that comes twice the last value counts. Not one
    /// step: others may see some of it.
    ///
    /// # Errors
    /// Of each key, as [patterns](super#errors); [`ErrorKind::Encode`](cachalot_core::ErrorKind::Encode) if the codec
    /// refuses its value, and nothing is sent of that key.
    pub async fn set<K: CacheKey>(&self, values: &[(K, V)], ttl: Duration) -> Vec<Result<()>> {
        const OPERATION: &str = "redis batch set";
        let mut bytes: HashMap<Key, Vec<u8>> = HashMap::with_capacity(values.len());
        let mut prepared = Vec::with_capacity(values.len());
        for (key, value) in values {
            let place = self.way.place(self.namespace.key(key));
            let mut encoded = Vec::new();
            let outcome = self.coding.encode(value, &mut encoded, &self.way, OPERATION, &place);
            if outcome.is_ok() {
                bytes.insert(place.key.clone(), encoded);
            }
            prepared.push((place, outcome));
        }
        let keys: Vec<Key> = bytes.keys().cloned().collect();
        if keys.is_empty() {
            return prepared.into_iter().map(|(_, outcome)| outcome).collect();
        }
        let life = millis(ttl);
        let command = |node: &RedisBackend, key: &Key| {
            let (mut command, value) = (Cmd::new(), bytes.get(key));
            match value {
                Some(value) if life > 0 => {
                    command.arg("SET").arg(&*node.name(key)).arg(value).arg("PX").arg(life)
                }
                _ => command.arg("UNLINK").arg(&*node.name(key)),
            };
            command
        };
        let sent = self.way.each(&keys, command, Again::Never).await;
        let sent: HashMap<&Key, _> = keys.iter().zip(sent).collect();
        let outcome = |(place, prepared): (super::way::Place, Result<()>)| {
            prepared?;
            match sent.get(&place.key) {
                Some(Err(fault)) => Err(self.way.error(fault.clone(), OPERATION, &place)),
                _ => Ok(()),
            }
        };
        prepared.into_iter().map(outcome).collect()
    }
}

impl<V> Clone for Batch<V> {
    fn clone(&self) -> Self {
        Self { way: self.way.clone(), namespace: self.namespace.clone(), coding: self.coding.clone() }
    }
}

impl<V> fmt::Debug for Batch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("namespace", &self.namespace).field("codec", &self.coding).finish()
    }
}
