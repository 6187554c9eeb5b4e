//! Entries that depend on other keys: they end with them.
//!
//! All that depends on a key has a tag of that key, which no caller can give. Whoever invalidates the key removes
//! the tag too. The key first, in every place that this process can reach, then the tag: what is loaded under the
//! new token cannot have read the old value of the key here or below.

use std::any::Any;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cachalot_core::{
    CacheKey, Depth, Error, ErrorKind, Key, KeyPattern, Removed, Result, Store, Tag, Tags, mutant,
};
use cachalot_stampede::guard;

use crate::cache::View;
use crate::engine::Engine;
use crate::load::{Load, TagOf};
use crate::replay::Missed;
use crate::shared::Shared;
use crate::tags::Epoch;

/// What a cache with dependencies keeps for them.
pub(crate) struct Dependencies<K> {
    pub(crate) tag_of: TagOf<K>,
    /// The epoch of the keys' tags.
    pub(crate) epoch: Epoch,
}

impl<K> Dependencies<K> {
    pub(crate) fn new(tag_of: TagOf<K>) -> Self {
        Self { tag_of, epoch: Epoch::default() }
    }
}

/// The tag of all that depends on `key`.
pub(crate) fn tag_of<K: CacheKey>(key: &K) -> Tag {
    Tag::of_dependants(&key.to_key_bytes())
}

/// The tags of what depends on a key: with one for all of these keys, for who invalidates keys that it cannot name.
pub(crate) fn tags_of(parent: Tag) -> [Tag; 2] {
    [parent, Tag::of_all_dependants()]
}

pub(crate) fn not_built_for_it(operation: &'static str) -> Error {
    let detail = "the cache is not built for dependencies: call `dependencies`";
    Error::new(ErrorKind::Config, operation).detail(detail)
}

impl<K, V, S> View<'_, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// What is loaded or inserted through this view depends on the key `parent` of the same cache: it ends when
    /// that is removed, expired or replaced by an insert, as if it had a tag that is removed then. Needs a cache
    /// built with [`dependencies`](crate::CacheBuilder::dependencies), where there is more about it.
    ///
    /// Where only the value decides what it depends on, there is [`Load::depends_on`].
    ///
    /// ```
    /// # use cachalot_core::Entry;
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache: Cache<String, String, Memory<String, Arc<Entry<String>>>> =
    ///     Cache::builder("pages").memory(Memory::entries(10)).dependencies().build()?;
    /// let (user, page) = ("user:7".to_owned(), "page:7".to_owned());
    /// let of_user = cache.with(|options| options).depends_on(&user)?;
    /// of_user.get_or_load(&page, |_| async { Ok("Hello, Ada".to_owned()) }).await?;
    ///
    /// cache.remove(&user).await?;
    /// assert!(cache.get_local(&page).is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Config`](cachalot_core::ErrorKind::Config) if the cache is not built for it, or the entry would have more
    /// than [`Tags::MAX`] tags: one for each key that it depends on, and one more.
    pub fn depends_on(mut self, parent: &K) -> Result<Self> {
        let Some(dependencies) = &self.cache.engine.dependencies else {
            return Err(not_built_for_it("depends_on"));
        };
        let tags = Tags::of(tags_of((dependencies.tag_of)(parent)).to_vec())?;
        self.options.tags = self.options.tags.with(&tags)?;
        Ok(self)
    }
}

impl<K> Load<K> {
    /// What this load gives depends on the key `parent` of the same cache, as by
    /// [`View::depends_on`](crate::View::depends_on).
    ///
    /// Over a shared tier a load that says so costs one round trip more; and it is not kept if any key of the cache
    /// is removed while it runs, since of which it might depend is not known before. Where the caller knows the
    /// parent, [`View::depends_on`](crate::View::depends_on) costs neither.
    ///
    /// In a cache that is not built with [`dependencies`](crate::CacheBuilder::dependencies), and with more than
    /// [`Tags::MAX`] tags, the value is unstorable, as by [`tag`](Load::tag).
    pub fn depends_on(&self, parent: &K) {
        self.wishes().depend(self.tag_of(), self.key(), parent);
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// For the handles of loads.
    pub(crate) fn tag_of(&self) -> Option<TagOf<K>> {
        self.dependencies.as_ref().map(|dependencies| dependencies.tag_of)
    }

    /// `tags`, unless they are of dependants and no removal would ever end them.
    pub(crate) fn checked(&self, tags: Result<Tags>) -> Result<Tags> {
        match tags {
            Ok(tags) if self.dependencies.is_none() && tags.iter().any(Tag::is_of_dependants) => {
                Err(not_built_for_it("tagging"))
            }
            tags => tags,
        }
    }

    /// The tags of an insert of `key`, which would end itself if it depended on itself.
    pub(crate) fn tags_of_insert(&self, key: &K, tags: &Tags) -> Result<Tags> {
        let tags = match &self.dependencies {
            Some(dependencies) => tags.without(&(dependencies.tag_of)(key)),
            None => tags.clone(),
        };
        self.checked(Ok(tags))
    }

    /// The tag of what depends on what was missed, beyond what it names itself.
    pub(crate) fn dependants_of(&self, missed: &Missed<K>) -> Option<Tag> {
        let dependencies = self.dependencies.as_ref()?;
        match missed {
            Missed::Key(key, _) => Some((dependencies.tag_of)(key)),
            Missed::Pattern(_) => Some(Tag::of_all_dependants()),
            Missed::Tag(_) | Missed::All => None,
        }
    }

    /// The tag of what depends on the key that others call `name`.
    pub(crate) fn dependants_of_name(&self, name: &Key) -> Option<Tag> {
        self.dependencies.as_ref()?;
        let bytes = name.as_bytes().strip_prefix(self.namespace.as_str().as_bytes())?.strip_prefix(b":")?;
        Some(Tag::of_dependants(bytes))
    }

    /// The local step: no copy of what depends on `key` is served any more. After the key's own.
    pub(crate) fn forget_dependants(&self, key: &K, depth: Depth) {
        if let Some(dependencies) = &self.dependencies {
            self.forget_tags(&Tags::one((dependencies.tag_of)(key)), depth);
        }
    }

    /// The same of all that depends on any key.
    pub(crate) fn forget_all_dependants(&self) {
        if self.dependencies.is_some() {
            self.forget_tags(&Tags::one(Tag::of_all_dependants()), Depth::Remove);
        }
    }

    /// Ends what depends on `key` in the shared tier, once that has taken the invalidation of the key itself; which
    /// is ended here before, lest it is read here under the new token. One round trip, in a cache with
    /// dependencies. The panic is that of an old value's `Drop`.
    pub(crate) async fn end_dependants(
        &self,
        shared: &Shared<K, V>,
        key: &K,
        depth: Depth,
    ) -> (Result<()>, Panic) {
        let Some(dependencies) = &self.dependencies else { return (Ok(()), None) };
        if mutant!(EndsDependantsFirst) {
            return (Ok(()), None);
        }
        let panic = match depth {
            Depth::Remove => self.end_here(key),
            Depth::Expire => {
                self.store.expire(key, self.options.stale_if_error);
                self.flights.void(key);
                None
            }
        };
        (self.end_tags_of_dependants(shared, vec![(dependencies.tag_of)(key)], depth).await, panic)
    }

    /// The same once an insert has replaced `key`, which ended the old value here and below before.
    pub(crate) async fn end_dependants_of_insert(&self, shared: &Shared<K, V>, key: &K) -> Result<()> {
        let Some(dependencies) = &self.dependencies else { return Ok(()) };
        self.end_tags_of_dependants(shared, vec![(dependencies.tag_of)(key)], Depth::Remove).await?;
        self.forget_dependants(key, Depth::Remove);
        Ok(())
    }

    /// The same of many keys, of which these are `removed`: where it fails, so has the removal.
    pub(crate) async fn end_dependants_of_many(
        &self,
        shared: &Shared<K, V>,
        keys: &[K],
        removed: &mut [Result<Removed>],
    ) -> Panic {
        let dependencies = self.dependencies.as_ref()?;
        let done: Vec<&K> =
            keys.iter().zip(&*removed).filter(|(_, removed)| removed.is_ok()).map(|(key, _)| key).collect();
        let panics: Vec<Panic> = done.iter().map(|key| self.end_here(key)).collect();
        let tags = done.iter().map(|key| (dependencies.tag_of)(key)).collect();
        if let Err(error) = self.end_tags_of_dependants(shared, tags, Depth::Remove).await {
            removed.iter_mut().filter(|it| it.is_ok()).for_each(|it| *it = Err(error.clone()));
        }
        panics.into_iter().flatten().next()
    }

    /// Ends, once the shared tier has been swept for `meant`, all that depends on any key: on which of those that
    /// were there is not known.
    pub(crate) async fn end_dependants_of_pattern(
        &self,
        meant: &KeyPattern,
        name: impl Fn(&K) -> Key + Send,
    ) -> Result<()> {
        let (Some(_), Some(shared)) = (&self.dependencies, &self.shared) else { return Ok(()) };
        // What a `Drop` of a value does there is found out by the step that is to come.
        let _ = guard(Box::pin(self.forget_matching(meant, name)), Duration::MAX).await;
        self.end_tags_of_dependants(shared, vec![Tag::of_all_dependants()], Depth::Remove).await
    }

    pub(crate) async fn end_tags_of_dependants(
        &self,
        shared: &Shared<K, V>,
        tags: Vec<Tag>,
        depth: Depth,
    ) -> Result<()> {
        if mutant!(LeavesDependants) {
            return Ok(());
        }
        for tags in tags.chunks(TAGS_AT_ONCE) {
            self.rotate(shared, tags, depth).await?;
        }
        Ok(())
    }

    /// Ends what this process has of `key`.
    fn end_here(&self, key: &K) -> Panic {
        let old = self.store.invalidate(key);
        self.flights.void(key);
        catch_unwind(AssertUnwindSafe(|| drop(old))).err()
    }
}

/// What a `Drop` threw, to be thrown on when all is done.
pub(crate) type Panic = Option<Box<dyn Any + Send>>;

const TAGS_AT_ONCE: usize = 1000;
