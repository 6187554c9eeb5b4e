//! A source that notes each call, and fails, hangs and panics as told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use cachalot_core::{Source, Write};
use cachalot_testkit::Gate;

/// Clones are the same source.
#[derive(Clone)]
pub(super) struct Sink {
    state: Arc<Mutex<State>>,
    /// Where calls stop before they write.
    pub(super) before: Gate,
    /// Where they stop when they have written.
    pub(super) after: Gate,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<u64, String>,
    /// The keys of each call that wrote, failed ones included.
    calls: Vec<Vec<u64>>,
    /// What was stored of each key, in its order.
    history: BTreeMap<u64, Vec<Option<String>>>,
    loads: usize,
    flying: BTreeSet<u64>,
    overlapped: bool,
    is_down: bool,
    poison: BTreeSet<u64>,
    script: VecDeque<Told>,
}

/// What a call does, by a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Take,
    Fail,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Down,
    Poison,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {self:?}")
    }
}

impl std::error::Error for Refused {}

impl Default for Sink {
    fn default() -> Self {
        Self { state: Arc::default(), before: Gate::opened(), after: Gate::opened() }
    }
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn row(&self, key: u64) -> Option<String> {
        self.lock().rows.get(&key).cloned()
    }

    pub(super) fn set(&self, key: u64, value: &str) {
        self.lock().rows.insert(key, value.to_owned());
    }

    /// The keys of each call so far.
    pub(super) fn calls(&self) -> Vec<Vec<u64>> {
        self.lock().calls.clone()
    }

    /// What has become of `key`, step by step.
    pub(super) fn history(&self, key: u64) -> Vec<Option<String>> {
        self.lock().history.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn loads(&self) -> usize {
        self.lock().loads
    }

    /// Whether two calls about one key ever ran at the same time.
    pub(super) fn has_overlapped(&self) -> bool {
        self.lock().overlapped
    }

    pub(super) fn down(&self, is_down: bool) {
        self.lock().is_down = is_down;
    }

    pub(super) fn poison(&self, keys: impl IntoIterator<Item = u64>) {
        self.lock().poison = keys.into_iter().collect();
    }

    /// What the next calls do, one by one.
    pub(super) fn told(&self, script: impl IntoIterator<Item = Told>) {
        self.lock().script.extend(script);
    }

    fn begin(&self, keys: &[u64]) {
        let mut state = self.lock();
        state.calls.push(keys.to_vec());
        for key in keys.iter().collect::<BTreeSet<_>>() {
            state.overlapped |= !state.flying.insert(*key);
        }
    }

    fn end(&self, writes: &[Write<'_, u64, String>]) -> Result<(), Refused> {
        let mut state = self.lock();
        for write in writes {
            state.flying.remove(write.key);
        }
        match state.script.pop_front() {
            Some(Told::Fail) => return Err(Refused::Down),
            Some(Told::Panic) => {
                drop(state);
                panic!("the source panics as it was told to");
            }
            _ if state.is_down => return Err(Refused::Down),
            _ if writes.iter().any(|write| state.poison.contains(write.key)) => return Err(Refused::Poison),
            _ => {}
        }
        for write in writes {
            let value = write.value.cloned();
            state.history.entry(*write.key).or_default().push(value.clone());
            match value {
                Some(value) => drop(state.rows.insert(*write.key, value)),
                None => drop(state.rows.remove(write.key)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Source<u64, String> for Sink {
    type Error = Refused;

    async fn load(&self, key: &u64) -> Result<Option<String>, Refused> {
        let mut state = self.lock();
        state.loads += 1;
        Ok(state.rows.get(key).cloned())
    }

    async fn store(&self, _: &u64, _: &String) -> Result<(), Refused> {
        unreachable!("a write-behind applies")
    }

    async fn delete(&self, _: &u64) -> Result<(), Refused> {
        unreachable!("a write-behind applies")
    }

    async fn apply(&self, writes: &[Write<'_, u64, String>]) -> Result<(), Refused> {
        let keys: Vec<u64> = writes.iter().map(|write| *write.key).collect();
        self.begin(&keys);
        self.before.pass().await;
        let result = self.end(writes);
        self.after.pass().await;
        result
    }
}
