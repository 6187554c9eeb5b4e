//! Who reads, what the source says, and what is seen.

use std::sync::Arc;

use cachalot::{Cached, Freshness, LoadError, LoaderError, StaleReason};
use cachalot_strategies::{Load, LoadMany};
use cachalot_testkit::history::{ReadId, Reader, Seen};
use tokio::time::sleep;

use super::life::{Act, Life};
use super::plan::{Action, Loading, Tagging, What};
use super::{EXTRA, HOUR, KEYS, Process, TAG, World, millis, unless_left};
use crate::L1;

/// What a read gave.
enum Sight {
    /// Nothing that says anything: a miss, or an error.
    Nothing,
    Value(Cached<String>),
    /// That there is no value.
    Absence,
}

impl<S: L1> World<S> {
    pub(super) async fn read(self: Arc<Self>, process: Arc<Process<S>>, action: Action) {
        let Action { key, what, .. } = action;
        let read = self.history().begin_read(Reader::Process(process.id), key, self.now());
        let work = async {
            match what {
                What::Load(loading) => self.load(&process, key, loading).await,
                What::Get => Sight::found(process.cache.get(&(key as u64)).await),
                _ => Sight::found(process.cache.get_local(&(key as u64))),
            }
        };
        match unless_left(action, work).await {
            Some(sight) => self.end_read(read, key, action.id, sight),
            None => self.note(format_args!("#{} leaves", action.id)),
        }
    }

    pub(super) async fn read_many(self: Arc<Self>, process: Arc<Process<S>>, action: Action) {
        let keys: [u64; KEYS] = std::array::from_fn(|key| key as u64);
        let begin = |key| self.history().begin_read(Reader::Process(process.id), key as usize, self.now());
        let reads = keys.map(begin);
        let work = async {
            match action.what {
                What::LoadMany { loading, omits } => {
                    self.load_many(&process, &keys, loading, omits.then_some(action.key as u64)).await
                }
                _ => process.cache.get_many(&keys).await.into_iter().map(Sight::found).collect(),
            }
        };
        match unless_left(action, work).await {
            Some(sights) => {
                for ((read, key), sight) in reads.into_iter().zip(keys).zip(sights) {
                    self.end_read(read, key as usize, action.id, sight);
                }
            }
            None => self.note(format_args!("#{} leaves", action.id)),
        }
    }

    /// Reads what the shared tier has, as a process that has just been started, over a good network.
    pub(super) async fn probe(self: &Arc<Self>, number: u64, key: usize, fails: bool) {
        let act = Act::calm(Action::extra(key, What::Probe { fails }));
        let life = Life::default();
        let world = self.clone();
        // Tokens that two draw alike would make good again what one of them has ended.
        let seed = self.lots("probe", number).draw_u64();
        let (clock, lots) = (self.clock.clone(), self.lots("fresh tier", number));
        let tier = self.routes.tier(self.server.backends(), life.clone(), clock.clone(), lots);
        let builder = self.builder(life.clone(), tier, clock, seed);
        let cache = builder.build().unwrap();
        let process = Process { id: EXTRA as usize, cache, life: life.clone() };
        let reading = life.run(act, async move {
            let read = world.history().begin_read(Reader::Fresh, key, world.now());
            let sight = match fails {
                true => world.load(&process, key, Loading { fails: true, ..Loading::calm(HOUR) }).await,
                false => Sight::found(process.cache.get(&(key as u64)).await),
            };
            world.end_read(read, key, EXTRA, sight);
        });
        reading.await.expect("nobody kills a probe");
    }

    async fn load(self: &Arc<Self>, process: &Process<S>, key: usize, loading: Loading) -> Sight {
        let view = process.cache.with(|options| options.ttl(millis(loading.ttl)).tags(self.tags()));
        let (world, life) = (self.clone(), process.life.clone());
        let load = |load: Load<u64>| async move {
            let mut rows = world.ask(&life, &[key as u64], loading).await?;
            if world.habits.tagging == Tagging::Decided {
                load.tag(TAG);
            }
            Ok(rows.remove(0).1)
        };
        if loading.may_be_absent {
            Sight::told(view.get_or_load_opt(&(key as u64), load).await)
        } else {
            let load = |handle| {
                let row = load(handle);
                async move { row.await?.ok_or_else(|| LoaderError::new("no such row")) }
            };
            Sight::found(view.get_or_load(&(key as u64), load).await.ok())
        }
    }

    /// Loads many by a loader that leaves the answer for one of them out, if told so.
    async fn load_many(
        self: &Arc<Self>,
        process: &Process<S>,
        keys: &[u64],
        loading: Loading,
        omitted: Option<u64>,
    ) -> Vec<Sight> {
        let view = process.cache.with(|options| options.ttl(millis(loading.ttl)).tags(self.tags()));
        let (world, life) = (self.clone(), process.life.clone());
        let ask = move |load: LoadMany<u64>| {
            let (world, life) = (world.clone(), life.clone());
            async move {
                let mut rows = world.ask(&life, load.keys(), loading).await?;
                rows.retain(|(key, _)| Some(*key) != omitted);
                if world.habits.tagging == Tagging::Decided {
                    rows.iter().for_each(|(key, _)| load.tag(key, TAG));
                }
                Ok::<_, LoaderError>(rows)
            }
        };
        if loading.may_be_absent {
            view.get_many_or_load_opt(keys, ask).await.into_iter().map(Sight::told).collect()
        } else {
            let ask = move |load: LoadMany<u64>| {
                let rows = ask(load);
                async move { Ok(rows.await?.into_iter().filter_map(|(key, row)| Some((key, row?)))) }
            };
            let loaded = view.get_many_or_load(keys, ask).await;
            loaded.into_iter().map(|loaded| Sight::found(loaded.ok())).collect()
        }
    }

    /// What the source says of `keys`. It takes its time.
    async fn ask(
        &self,
        life: &Life,
        keys: &[u64],
        loading: Loading,
    ) -> Result<Vec<(u64, Option<String>)>, LoaderError> {
        life.step().await;
        sleep(millis(loading.before)).await;
        let row = |key: &u64| (*key, self.row(self.history().version(&(*key as usize))));
        let rows: Vec<_> = keys.iter().map(row).collect();
        self.note(format_args!("the source says {rows:?}"));
        if loading.is_stuck {
            life.stick(millis(loading.after)).await;
        } else {
            sleep(millis(loading.after)).await;
        }
        life.step().await;
        if loading.fails { Err(LoaderError::new("the source is down")) } else { Ok(rows) }
    }

    /// What the source has for a key at its `version`. `None`: no such row.
    pub(super) fn row(&self, version: u64) -> Option<String> {
        (!self.is_absent(version)).then(|| version.to_string())
    }

    pub(super) fn is_absent(&self, version: u64) -> bool {
        self.habits.has_absences && version.is_multiple_of(3)
    }

    fn end_read(&self, read: ReadId, key: usize, id: u64, sight: Sight) {
        self.note(format_args!("#{id} sees {sight:?}"));
        let mut history = self.history();
        let seen = match sight {
            Sight::Nothing => None,
            Sight::Value(seen) => Some(Seen {
                version: self.version_of(&seen),
                is_fallback: seen.freshness() == Freshness::Invalidated
                    && matches!(seen.stale_reason(), Some(StaleReason::LoadFailed(_))),
            }),
            // The latest it may be of; 0, which no source ever had, if there was none. It does not say whether a
            // load has failed: after an expiration it may be old.
            Sight::Absence => {
                let version = (1..=history.version(&key)).rev().find(|version| self.is_absent(*version));
                Some(Seen { version: version.unwrap_or(0), is_fallback: true })
            }
        };
        history.end_read(read, seen, self.now());
    }
}

impl Sight {
    fn found(seen: Option<Cached<String>>) -> Self {
        seen.map_or(Self::Nothing, Self::Value)
    }

    fn told(seen: Result<Option<Cached<String>>, LoadError>) -> Self {
        seen.map_or(Self::Nothing, |seen| seen.map_or(Self::Absence, Self::Value))
    }
}

impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Value(seen) => write!(f, "{seen:?}"),
            Self::Absence => f.write_str("an absence"),
        }
    }
}
