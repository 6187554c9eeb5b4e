//! The keys that have a tag: noted when they are stored, listed, and deleted after the tag was removed.

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cachalot_core::{
    CacheKey, Error, ErrorKind, Event, Key, Result, Store, Tag, TagIndexBackend, TagWalk, Tags,
};

use crate::cache::Cache;
use crate::engine::Engine;

/// The index of a cache, and the tags whose keys are still to be deleted.
pub(crate) struct Index {
    backend: Arc<dyn TagIndexBackend>,
    to_delete: Mutex<ToDelete>,
}

#[derive(Default)]
struct ToDelete {
    tags: VecDeque<Tag>,
    is_running: bool,
}

/// How many tags may wait. The keys of more are left to end by themselves.
const MOST: usize = 1024;

impl Index {
    pub(crate) fn new(backend: Arc<dyn TagIndexBackend>) -> Self {
        Self { backend, to_delete: Mutex::default() }
    }

    /// Adds `tags` to those that wait. `true` if nobody deletes: the caller must.
    fn add_to_delete(&self, tags: &Tags) -> bool {
        let mut waiting = self.to_delete.lock().unwrap_or_else(PoisonError::into_inner);
        for tag in tags.iter().filter(|tag| is_indexed(tag)) {
            if waiting.tags.len() < MOST && !waiting.tags.contains(tag) {
                waiting.tags.push_back(tag.clone());
            }
        }
        !waiting.tags.is_empty() && !std::mem::replace(&mut waiting.is_running, true)
    }

    /// The next one. `None`: whoever adds one has to delete it.
    fn next_to_delete(&self) -> Option<Tag> {
        let mut waiting = self.to_delete.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.tags.pop_front();
        waiting.is_running = next.is_some();
        next
    }
}

/// Whether it is a caller's.
fn is_indexed(tag: &Tag) -> bool {
    !tag.as_bytes().is_empty() && !tag.is_of_dependants()
}

impl<K, V, S> Cache<K, V, S>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// The keys that were stored in the shared tier with the tag `name` and whose time is not over, a page at a
    /// time. Needs a cache built with an index ([`tag_index`](crate::CacheBuilder::tag_index)).
    ///
    /// For listings, not for decisions: what is there under a key may have been removed since, evicted, or ended
    /// with the tag. A key that has the tag throughout is listed at least once.
    ///
    /// ```
    /// # use cachalot_core::{Clock, Entry, Namespace, Tags};
    /// # use cachalot_memory_backend::{Memory, MemoryBackend};
    /// # use cachalot_strategies::Cache;
    /// # use cachalot_testkit::ModelIndex;
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend = Arc::new(MemoryBackend::with_limit(1 << 20, Clock::system()));
    /// # // Over Redis: TagIndex::open(&backend, &Namespace::new("products")?).await?
    /// # let index = ModelIndex::new(Namespace::new("products")?, backend.clone(), Clock::system());
    /// # type Products = Cache<u64, String, Memory<u64, Arc<Entry<String>>>>;
    /// let cache: Products = Cache::builder("products")
    ///     .memory(Memory::entries(10))
    ///     .backend(backend)
    ///     .tag_index(index)
    ///     .build()?;
    /// let tags = Tags::new(["kitchen"])?;
    /// cache.with(|options| options.tags(tags)).insert(7, "kettle".to_owned()).await?;
    /// let mut pages = cache.keys_of_tag("kitchen")?;
    /// while let Some(page) = pages.next().await? {
    ///     page.iter().for_each(|key| println!("{key}"));
    ///     # assert_eq!(page, [7]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Config`](cachalot_core::ErrorKind::Config) if `name` is no [`Tag`], or the cache has no index.
    pub fn keys_of_tag(&self, name: impl AsRef<[u8]>) -> Result<KeysOfTag<K>> {
        let tag = Tag::new(name)?;
        let (Some(index), Some(names)) = (&self.engine.index, &self.engine.names) else {
            let detail = "the cache has no index: call `tag_index`";
            return Err(Error::new(ErrorKind::Config, "keys_of_tag").detail(detail));
        };
        Ok(KeysOfTag { walk: index.backend.keys(&tag), names: names.clone() })
    }
}

/// The keys that have a tag, from [`Cache::keys_of_tag`].
#[must_use = "nothing is asked before the first page"]
pub struct KeysOfTag<K> {
    walk: Box<dyn TagWalk<Vec<Key>>>,
    names: crate::names::Names<K>,
}

impl<K> KeysOfTag<K> {
    /// The next page, perhaps empty; `None` after the last. One or two round trips. What is no key of this type is
    /// left out.
    ///
    /// # Errors
    /// Unavailable or timeout. May be called again, and goes on where it was.
    pub async fn next(&mut self) -> Result<Option<Vec<K>>> {
        let page = self.walk.next().await?;
        Ok(page.map(|page| page.iter().filter_map(|name| self.names.read(name)).collect()))
    }
}

impl<K> fmt::Debug for KeysOfTag<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysOfTag").finish_non_exhaustive()
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Notes, before a value is stored and under the right to do so, that `key` has `tags`. No round trip without
    /// an index, or tags.
    pub(crate) async fn note_in_index<'a>(
        &self,
        tags: impl Iterator<Item = &'a Tag>,
        key: &Key,
        kept_for: Duration,
    ) -> Result<()> {
        let Some(index) = &self.index else { return Ok(()) };
        let tags = Tags::of(tags.filter(|tag| is_indexed(tag)).cloned().collect())?;
        if tags.is_empty() { Ok(()) } else { index.backend.add(&tags, key, kept_for).await }
    }

    /// Deletes in the background what has `tags`, which are removed: nobody would be served it.
    pub(crate) fn delete_by_index(self: &Arc<Self>, tags: &Tags) {
        let is_first = self.index.as_ref().is_some_and(|index| index.add_to_delete(tags));
        if is_first {
            self.detach(self.tasks.begin(), self.clone().delete_waiting());
        }
    }

    async fn delete_waiting(self: Arc<Self>) {
        let Some(index) = &self.index else { return };
        while let Some(tag) = index.next_to_delete() {
            let mut removal = index.backend.removal(&tag);
            loop {
                match removal.next().await {
                    Ok(Some(removed)) => self.emit(&Event::Swept { removed }),
                    Ok(None) => break,
                    Err(error) => {
                        // What is left ends unread, and the index still knows it.
                        self.backend_failed(&error);
                        break;
                    }
                }
            }
        }
    }
}
