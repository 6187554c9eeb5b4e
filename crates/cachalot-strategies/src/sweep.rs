//! Removing many keys at once: by pattern, and all of them.

use std::hash::Hash;
use std::sync::Arc;

use cachalot_core::{
    CacheKey, Depth, ErrorKind, Event, Key, KeyPattern, Namespace, Pattern, Result, Store, Subject,
    SweepCursor, Tag,
};

use crate::cache::Cache;
use crate::confirmed::Invalidation;
use crate::engine::Engine;
use crate::replay::Missed;
use crate::shared::Shared;
use crate::write::Removal;

impl<K, V, S> Cache<K, V, S>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Forgets, in every tier and process, every key whose [byte form](CacheKey) `pattern` matches: a glob as in
    /// Redis, without the cache's name. Whatever is in flight for such a key is not stored.
    ///
    /// Not at one moment: a shared tier is walked in bounded steps, each with the deadline of any other
    /// operation, and so is memory; the time grows with all keys there are, not only with those that match. The
    /// observer hears of each step ([`Event::Swept`]). To end many keys often, [tags](Cache::remove_tag) do it in
    /// one step.
    ///
    /// Text from outside goes through [`Pattern::literal`], so that it is not a pattern by accident.
    ///
    /// ```
    /// # use cachalot_core::{Entry, Pattern};
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache: Cache<String, u64, Memory<String, Arc<Entry<u64>>>> =
    /// #     Cache::builder("pages").memory(Memory::entries(10)).build()?;
    /// cache.insert("user:7:avatar".into(), 1).await?;
    /// cache.insert("user:7:name".into(), 2).await?;
    /// cache.insert("user:77:name".into(), 3).await?;
    /// cache.remove_pattern(&Pattern::prefix("user:7:")).await?;
    /// assert!(cache.get_local("user:7:name").is_none());
    /// assert!(cache.get_local("user:77:name").is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`remove`](Cache::remove). [`Removal::Deferred`] if a step failed: what was not reached is removed by a
    /// replay, and until then all that matches bypasses both tiers here. From the 65th pattern on that is
    /// deferred at one time, the whole cache is cleared instead.
    ///
    /// # Dropping the future
    /// The removal goes on.
    pub fn remove_pattern(&self, pattern: &Pattern) -> Invalidation<'_> {
        let names = |namespace: &Namespace, key: &K| namespace.key(key);
        let work = self.engine.clone().remove_pattern(pattern.clone(), names);
        self.invalidation("remove_pattern", Ok(work))
    }

    /// Forgets every key of this cache, in every tier and process; `users` never touches `usersAbc`. Walks a
    /// shared tier as [`remove_pattern`](Cache::remove_pattern) does, unless the cache is built
    /// [`clearable`](crate::CacheBuilder::clearable): then it is one round trip.
    ///
    /// # Errors
    /// As [`remove_pattern`](Cache::remove_pattern).
    pub fn clear(&self) -> Invalidation<'_> {
        self.invalidation("clear", Ok(self.engine.clone().clear()))
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    async fn remove_pattern(
        self: Arc<Self>,
        pattern: Pattern,
        key_of: impl Fn(&Namespace, &K) -> Key + Send + Sync,
    ) -> Removal {
        let meant = pattern.within(&self.namespace);
        let mut swept = self.sweep(&meant).await;
        if swept.is_ok() {
            let name = |key: &K| key_of(&self.namespace, key);
            swept = self.end_dependants_of_pattern(&meant, name).await;
        }
        if swept.is_err() && self.unswept.is_crowded() {
            // To walk once for all of them is cheaper than once for each.
            return self.cleared(swept);
        }
        self.keep_unswept(&swept, &meant, Missed::Pattern(pattern.clone()));
        // Before values' own `Drop`s run: others are told whatever becomes of these.
        self.tell_pattern(&pattern, swept.is_err());
        self.forget_matching(&meant, |key| key_of(&self.namespace, key)).await;
        self.swept(swept)
    }

    async fn clear(self: Arc<Self>) -> Removal {
        let swept = self.end_all().await;
        self.cleared(swept)
    }

    fn cleared(self: &Arc<Self>, swept: Result<()>) -> Removal {
        let meant = Pattern::any().within(&self.namespace);
        self.keep_unswept(&swept, &meant, Missed::All);
        self.tell_clear(swept.is_err());
        self.forget_all();
        self.swept(swept)
    }

    /// Deferred first, then forgotten, as for a key.
    fn keep_unswept(self: &Arc<Self>, swept: &Result<()>, meant: &KeyPattern, missed: Missed<K>) {
        if swept.is_err() {
            self.keep_for_replay(self.name_of_pattern(meant), missed);
        }
    }

    fn swept(&self, swept: Result<()>) -> Removal {
        let Err(error) = swept else { return Removal::Removed };
        self.emit_deferred(&error, 1);
        Removal::Deferred
    }

    /// Removes what matches from the shared tier, part by part.
    pub(crate) async fn sweep(&self, meant: &KeyPattern) -> Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let mut from = Some(SweepCursor::START);
        while let Some(cursor) = from {
            from = self.sweep_part(shared, meant, &cursor).await?;
            // A tier in this process never makes it wait.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// A part that failed is tried once more: with hundreds of them one is bound to meet a short fault.
    async fn sweep_part(
        &self,
        shared: &Shared<K, V>,
        meant: &KeyPattern,
        from: &SweepCursor,
    ) -> Result<Option<SweepCursor>> {
        let first = shared.backend.sweep(meant, from).await;
        let swept = match first {
            Err(error) if error.kind() == ErrorKind::Timeout => shared.backend.sweep(meant, from).await?,
            swept => swept?,
        };
        self.emit(&Event::Swept { removed: swept.removed });
        Ok(swept.next)
    }

    /// Ends all that the shared tier has: by one tag, or one by one.
    pub(crate) async fn end_all(&self) -> Result<()> {
        match &self.shared {
            Some(shared) if self.is_clearable => {
                self.rotate(shared, &[Tag::everything()], Depth::Remove).await
            }
            _ => self.sweep(&Pattern::any().within(&self.namespace)).await,
        }
    }

    /// The replay of a pattern.
    pub(crate) async fn sweep_again(&self, pattern: &Pattern) -> Result<()> {
        let meant = pattern.within(&self.namespace);
        self.sweep(&meant).await?;
        match &self.names {
            Some(names) => self.end_dependants_of_pattern(&meant, |key| names.key(key)).await,
            None => Ok(()),
        }
    }

    /// The local step of a sweep that was replayed. What is told again is told by who calls.
    pub(crate) async fn forget_unswept(&self, pattern: &Pattern) {
        let meant = pattern.within(&self.namespace);
        match &self.names {
            Some(names) => self.forget_matching(&meant, |key| names.key(key)).await,
            None => self.forget_all(),
        }
    }

    pub(crate) fn name_of_pattern(&self, meant: &KeyPattern) -> Key {
        name_of_pattern(&self.namespace, meant)
    }

    pub(crate) fn tell_clear(&self, pending: bool) {
        if !pending {
            let all = Pattern::any().within(&self.namespace);
            self.remember_done(self.name_of_pattern(&all), Missed::All);
        }
        self.tell(Subject::Clear { pending });
    }

    pub(crate) fn tell_pattern(&self, pattern: &Pattern, pending: bool) {
        if !pending {
            let meant = pattern.within(&self.namespace);
            self.remember_done(self.name_of_pattern(&meant), Missed::Pattern(pattern.clone()));
        }
        self.tell(Subject::Pattern { pattern: pattern.as_bytes().to_vec().into(), pending });
    }
}

/// What the invalidation of `meant` is called among those that wait: no key has such a name.
pub(crate) fn name_of_pattern(namespace: &Namespace, meant: &KeyPattern) -> Key {
    Key::new([namespace.as_str().as_bytes(), b"*", meant.as_pattern().as_bytes()].concat())
}
