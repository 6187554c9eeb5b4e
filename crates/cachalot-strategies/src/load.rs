//! What a loader is given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachalot_core::{Error, Result, Tag, Tags, Ttl};

use crate::dependencies::{not_built_for_it, tags_of};

/// The load in progress, handed to the loader, which owns it.
///
/// What depends on the value is set here: a TTL that the source knows, the tags that it belongs to.
#[derive(Debug)]
pub struct Load<K> {
    key: K,
    wishes: Wishes,
    /// `None`: the cache has no dependencies.
    tag_of: Option<TagOf<K>>,
}

/// How the tag of what depends on a key is called.
pub(crate) type TagOf<K> = fn(&K) -> Tag;

impl<K> Load<K> {
    pub(crate) fn new(key: K, tag_of: Option<TagOf<K>>) -> Self {
        Self { key, wishes: Wishes::default(), tag_of }
    }

    pub(crate) fn tag_of(&self) -> Option<TagOf<K>> {
        self.tag_of
    }

    pub(crate) fn wishes(&self) -> Wishes {
        self.wishes.clone()
    }

    /// The key to load.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Sets the TTL of the value that this load gives, instead of the options'. Zero: do not store. The last one set
    /// counts. An absence keeps the options' negative TTL.
    ///
    /// So the loader adapts it to what it has seen: the time that a service says it is good for, or the class that
    /// the value turns out to be of.
    ///
    /// ```
    /// # use cachalot_core::{DataClass, Entry, Tiers, Ttl};
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache: Cache<u64, String, Memory<u64, Arc<Entry<String>>>> =
    /// #     Cache::builder("pages").memory(Memory::entries(10)).build()?;
    /// let tiers = Tiers::presets();
    /// cache.get_or_load(&1, |load| async move {
    ///     let (body, max_age) = ("in stock".to_owned(), Some(30));
    ///     match max_age {
    ///         Some(seconds) => load.ttl(Ttl::seconds(seconds)),
    ///         None => load.ttl(tiers.of(DataClass::Catalogue)),
    ///     }
    ///     Ok(body)
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ttl(&self, ttl: impl Into<Ttl>) {
        self.wishes.lock().ttl = Some(ttl.into());
    }

    /// Says which version of its key this load gives, by the source's own count: what is known to be older than
    /// another one is not kept. In a cache that is [`versioned`](crate::CacheBuilder::versioned); in any other the
    /// value is not kept either, and [`Event::Unstorable`](cachalot_core::Event::Unstorable) says why.
    pub fn version(&self, version: u64) {
        self.wishes.lock().version = Some(version);
    }

    /// Adds a tag to what this load gives, beside those of the options.
    ///
    /// A name that is empty or longer than [`Tag::MAX_LEN`], or one beyond [`Tags::MAX`], makes the value
    /// unstorable: its callers get it, no tier keeps it, and
    /// [`Event::Unstorable`](cachalot_core::Event::Unstorable) says why. Kept without its tag it would outlive
    /// its removal.
    ///
    /// Over a shared tier a load with tags set here costs one round trip more than without.
    pub fn tag(&self, name: impl AsRef<[u8]>) {
        self.wishes.lock().tag(name.as_ref());
    }
}

/// What the loader asked for; shared with the flight, which reads it when the load has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes(Arc<Mutex<Wished>>);

/// What a loader asked for one value.
#[derive(Debug, Default)]
pub(crate) struct Wished {
    pub(crate) ttl: Option<Ttl>,
    pub(crate) version: Option<u64>,
    tags: Vec<Tag>,
    bad_tag: Option<Error>,
}

impl Wishes {
    pub(crate) fn taken(&self) -> Wished {
        std::mem::take(&mut *self.lock())
    }

    pub(crate) fn depend<K>(&self, tag_of: Option<TagOf<K>>, key: &K, parent: &K) {
        self.lock().depend(tag_of, key, parent);
    }

    fn lock(&self) -> MutexGuard<'_, Wished> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wished {
    pub(crate) fn tag(&mut self, name: &[u8]) {
        match Tag::new(name) {
            Ok(tag) => self.tags.push(tag),
            Err(error) => self.bad_tag = Some(error),
        }
    }

    /// `key` depends on `parent`; on itself it does anyway.
    pub(crate) fn depend<K>(&mut self, tag_of: Option<TagOf<K>>, key: &K, parent: &K) {
        match tag_of {
            None => self.bad_tag = Some(not_built_for_it("depends_on")),
            Some(tag_of) if tag_of(parent) == tag_of(key) => {}
            Some(tag_of) => self.tags.extend(tags_of(tag_of(parent))),
        }
    }

    /// Its tags and those that were `declared`.
    pub(crate) fn tags(&mut self, declared: &Tags) -> Result<Tags> {
        match self.bad_tag.take() {
            Some(error) => Err(error),
            None => declared.with(&Tags::of(std::mem::take(&mut self.tags))?),
        }
    }
}
