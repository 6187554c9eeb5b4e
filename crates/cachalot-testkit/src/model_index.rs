//! An index of tags, written to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, Clock, Error, ErrorKind, Key, Namespace, Removed, Result, Tag, TagIndexBackend, TagWalk, Tags,
    Timestamp,
};

/// A [`TagIndexBackend`] beside any backend, in one map under one lock. A clone is the same index.
#[derive(Clone, Debug)]
pub struct ModelIndex {
    namespace: Namespace,
    backend: Arc<dyn Backend>,
    clock: Clock,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// When each key of a tag ends.
    ends: BTreeMap<Tag, BTreeMap<Vec<u8>, Timestamp>>,
    adds: usize,
    is_down: bool,
}

/// Keys, and when each ends.
type Page = Vec<(Vec<u8>, Timestamp)>;

/// How many keys a page has. Few, so that walks of tests have several.
const KEYS_PER_PAGE: usize = 3;

impl ModelIndex {
    /// That of `namespace` in `backend`.
    pub fn new(namespace: Namespace, backend: impl Backend, clock: Clock) -> Self {
        Self { namespace, backend: Arc::new(backend), clock, known: Arc::default() }
    }

    /// How often something was added.
    pub fn adds(&self) -> usize {
        self.known(|known| known.adds)
    }

    /// From now on nothing is taken, or, from a second call with `false` on, everything again.
    pub fn down(&self, is_down: bool) {
        self.known(|known| known.is_down = is_down);
    }

    fn known<R>(&self, step: impl FnOnce(&mut Known) -> R) -> R {
        step(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reached(&self) -> Result<()> {
        match self.known(|known| known.is_down) {
            true => Err(Error::new(ErrorKind::Unavailable, "model index")),
            false => Ok(()),
        }
    }

    /// Some keys of `tag` after that one, with their ends.
    fn page(&self, tag: &Tag, after: Option<&Vec<u8>>) -> Page {
        self.known(|known| {
            let all = known.ends.get(tag).into_iter().flatten();
            let rest = all.filter(|(key, _)| after.is_none_or(|after| *key > after));
            rest.take(KEYS_PER_PAGE).map(|(key, ends)| (key.clone(), *ends)).collect()
        })
    }

    /// Forgets what has not been added again since.
    fn forget(&self, tag: &Tag, page: &[(Vec<u8>, Timestamp)]) {
        self.known(|known| {
            if let Some(ends) = known.ends.get_mut(tag) {
                page.iter().for_each(|(key, at)| {
                    if ends.get(key) == Some(at) {
                        ends.remove(key);
                    }
                });
            }
            known.ends.retain(|_, ends| !ends.is_empty());
        });
    }

    /// The keys that it knows of any tag.
    pub fn keys_known(&self) -> BTreeSet<Vec<u8>> {
        self.known(|known| known.ends.values().flat_map(|ends| ends.keys().cloned()).collect())
    }
}

#[async_trait]
impl TagIndexBackend for ModelIndex {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    async fn add(&self, tags: &Tags, key: &Key, ttl: Duration) -> Result<()> {
        self.reached()?;
        let ends = self.clock.now() + ttl;
        self.known(|known| {
            known.adds += 1;
            for tag in tags.iter() {
                known.ends.entry(tag.clone()).or_default().insert(key.as_bytes().to_vec(), ends);
            }
        });
        Ok(())
    }

    fn keys(&self, tag: &Tag) -> Box<dyn TagWalk<Vec<Key>>> {
        Box::new(Walk { index: self.clone(), tag: tag.clone(), after: None, is_over: false })
    }

    fn removal(&self, tag: &Tag) -> Box<dyn TagWalk<u64>> {
        Box::new(Walk { index: self.clone(), tag: tag.clone(), after: None, is_over: false })
    }
}

struct Walk {
    index: ModelIndex,
    tag: Tag,
    after: Option<Vec<u8>>,
    is_over: bool,
}

impl Walk {
    fn page(&self) -> Result<Option<Page>> {
        self.index.reached()?;
        Ok((!self.is_over).then(|| self.index.page(&self.tag, self.after.as_ref())))
    }

    fn went(&mut self, page: &[(Vec<u8>, Timestamp)]) {
        self.is_over = page.len() < KEYS_PER_PAGE;
        self.after = page.last().map(|(key, _)| key.clone()).or(self.after.take());
    }
}

#[async_trait]
impl TagWalk<Vec<Key>> for Walk {
    async fn next(&mut self) -> Result<Option<Vec<Key>>> {
        let Some(page) = self.page()? else { return Ok(None) };
        self.went(&page);
        let now = self.index.clock.now();
        let live = page.into_iter().filter(|(_, ends)| now < *ends);
        Ok(Some(live.map(|(key, _)| Key::new(key)).collect()))
    }
}

#[async_trait]
impl TagWalk<u64> for Walk {
    async fn next(&mut self) -> Result<Option<u64>> {
        let Some(page) = self.page()? else { return Ok(None) };
        let mut removed = 0;
        for (key, _) in &page {
            removed +=
                u64::from(self.index.backend.remove(&Key::new(key.clone())).await? != Removed::Nothing);
        }
        self.index.forget(&self.tag, &page);
        self.went(&page);
        Ok(Some(removed))
    }
}
