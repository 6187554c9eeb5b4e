//! Tags: what a record's tokens are worth, which tokens a value is stored under, and how a tag is removed.
//!
//! The tokens that an entry carries are those that its load saw before it began. For tags that only the value
//! decides that moment has passed, so the epoch stands in: it changes before any token does. Read before the
//! load, and again after the tokens, it tells whether one of them may have changed in between.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::envelope::{self, Tagged};
use cachalot_core::{
    Depth, Error, ErrorKind, Event, Freshness, Glimpse, Hit, Key, Record, Result, Stamp, Store, Subject, Tag,
    TagBackend, TagToken, Tags, Tier, mutant,
};
use cachalot_invalidation::Standing;
use equivalent::Equivalent;

use crate::both::both;
use crate::cached::Cached;
use crate::engine::Engine;
use crate::replay::Missed;
use crate::shared::Shared;
use crate::write::Removal;

mod known;
pub(crate) use known::{Epoch, Everything};

/// How long a token lives at least after it was used last. Losing one costs the loads of its tag.
const TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The same of a key's tag, which is changed whether or not anything depends on the key: whoever is to depend on it
/// prolongs it, and one that is gone is another.
const UNUSED_TOKEN_LIFE: Duration = Duration::from_secs(60);

/// A record, and whether a tag of it was removed. One that was expired makes the record an invalidated one.
pub(crate) struct Vetted {
    pub(crate) record: Record,
    pub(crate) is_removed: bool,
}

/// What was read of the tags before a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured {
    /// Those that the options name.
    declared: Vec<Tagged>,
    epochs: Epochs,
    /// What everything stands at, in a cache that is cleared by it.
    everything: Option<TagToken>,
}

/// The epochs of callers' tags, and of those of dependants in a cache with dependencies.
#[derive(Clone, Copy, Debug, Default)]
struct Epochs {
    tags: Option<TagToken>,
    dependants: Option<TagToken>,
}

/// Where a value with tags may be stored.
pub(crate) enum Storable {
    Anywhere(Vec<Tagged>),
    /// The shared tier has no tags, or did not say what they stand at before the load.
    InMemory,
    /// One of them may have been removed since the load began.
    Nowhere,
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// What memory holds under `key` and nothing that this process has seen since has ended.
    #[inline]
    pub(crate) fn look<Q>(&self, key: &Q) -> Option<Hit<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if !self.may_look() {
            return None;
        }
        let hit = self.store.get(key)?;
        let freshness = self.since_seen(&hit.entry.stamp, hit.freshness)?;
        Some(Hit { freshness, ..hit })
    }

    /// The same, and whether it is served as it is ([`Cached::is_plain`]). The hot path: that is judged before the handle is
    /// cloned, since an atomic step holds up what comes behind it.
    #[inline]
    pub(crate) fn glance<Q>(&self, key: &Q) -> Option<(Hit<V>, bool)>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if !self.may_look() {
            return None;
        }
        let glance = |Glimpse { entry, freshness, stale_for, at }: Glimpse<'_, V>| {
            // What never ends is never about to.
            let is_early = at.is_some_and(|at| entry.meta.is_early(at));
            let is_value = freshness == Freshness::Fresh && entry.value.is_some();
            let is_plain = is_value && !is_early && self.seen.is_good_at_a_glance(&entry.stamp);
            Some((entry.clone(), freshness, stale_for, at, is_plain))
        };
        let (entry, freshness, stale_for, at, is_plain) = self.store.get_with(key, glance)?;
        let at = at.unwrap_or_else(|| self.clock.coarse());
        let hit = Hit { entry, freshness, stale_for, at };
        if is_plain { Some((hit, true)) } else { self.look_twice(hit) }
    }

    /// For what needs more than a glance.
    fn look_twice(&self, hit: Hit<V>) -> Option<(Hit<V>, bool)> {
        let freshness = self.since_seen(&hit.entry.stamp, hit.freshness)?;
        let hit = Hit { freshness, ..hit };
        let is_plain = Cached::is_plain(&hit);
        Some((hit, is_plain))
    }

    /// What an entry in memory with this stamp is good for, which is `freshness` by its times.
    pub(crate) fn standing(&self, stamp: &Stamp, freshness: Freshness) -> Option<Freshness> {
        if self.may_look() { self.since_seen(stamp, freshness) } else { None }
    }

    #[inline]
    fn since_seen(&self, stamp: &Stamp, freshness: Freshness) -> Option<Freshness> {
        match self.seen.standing(stamp) {
            Standing::Good => Some(freshness),
            Standing::Expired => Some(Freshness::Invalidated),
            Standing::Removed => None,
        }
    }

    /// The record under `key`, and what its tags stand at now. One round trip; one more if it has tags of its own.
    pub(crate) async fn get_vetted(&self, shared: &Shared<K, V>, key: &Key) -> Result<Option<Vetted>> {
        if !self.is_clearable {
            return match shared.backend.get(key).await? {
                Some(record) => Ok(Some(self.vet(shared, key, record).await)),
                None => Ok(None),
            };
        }
        // Asked at once, they travel together.
        let everything = Tag::everything();
        let (record, now) =
            both(shared.backend.get(key), self.tokens_now(shared, std::slice::from_ref(&&everything))).await;
        let Some(record) = record? else { return Ok(None) };
        Ok(Some(self.vet_one(shared, key, record, now.first().copied()).await))
    }

    /// Asks in the shared tier what the tags of `record` stand at now. No round trip if it has none.
    pub(crate) async fn vet(&self, shared: &Shared<K, V>, key: &Key, record: Record) -> Vetted {
        match self.is_to_be_vetted(&record) {
            true => self.vet_one(shared, key, record, None).await,
            false => Vetted { record, is_removed: false },
        }
    }

    async fn vet_one(
        &self,
        shared: &Shared<K, V>,
        key: &Key,
        record: Record,
        everything: Option<Option<TagToken>>,
    ) -> Vetted {
        let mut vetted = Vetted { record, is_removed: false };
        Box::pin(self.vet_tagged(shared, vec![(key, &mut vetted)], everything)).await;
        vetted
    }

    /// [`vet`](Engine::vet) of many, in one round trip.
    pub(crate) async fn vet_many(
        &self,
        shared: &Shared<K, V>,
        keys: &[Key],
        records: Vec<Result<Option<Record>>>,
    ) -> Vec<Result<Option<Vetted>>> {
        let unvetted = |record| Vetted { record, is_removed: false };
        let mut answers: Vec<Result<Option<Vetted>>> =
            records.into_iter().map(|answer| answer.map(|record| record.map(unvetted))).collect();
        let found = keys.iter().zip(&mut answers);
        let found = found.filter_map(|(key, answer)| Some((key, answer.as_mut().ok()?.as_mut()?)));
        let asked: Vec<_> = found.filter(|(_, vetted)| self.is_to_be_vetted(&vetted.record)).collect();
        if !asked.is_empty() {
            self.vet_tagged(shared, asked, None).await;
        }
        answers
    }

    fn is_to_be_vetted(&self, record: &Record) -> bool {
        (self.is_clearable || envelope::is_tagged(&record.payload)) && !mutant!(TrustsTagsUnread)
    }

    /// `everything`: what was read of it already.
    async fn vet_tagged(
        &self,
        shared: &Shared<K, V>,
        records: Vec<(&Key, &mut Vetted)>,
        everything: Option<Option<TagToken>>,
    ) {
        let mut open: Vec<(&mut Vetted, Vec<Tagged>)> = Vec::new();
        for (key, vetted) in records {
            // What cannot be read is found out and counted by who judges it.
            let Ok(tags) = envelope::open(key, &vetted.record.payload).map(|opened| opened.tags) else {
                continue;
            };
            // What was stored when the cache was not cleared by a tag cannot be told from what is good.
            vetted.is_removed = self.is_clearable && !tags.iter().any(|it| it.tag.as_bytes().is_empty());
            if !tags.is_empty() {
                open.push((vetted, tags));
            }
        }
        let mut tags: Vec<&Tag> = open.iter().flat_map(|(_, tags)| tags.iter().map(|it| &it.tag)).collect();
        tags.sort_unstable();
        tags.dedup();
        let asks_for_everything =
            everything.is_some() || tags.first().is_some_and(|tag| tag.as_bytes().is_empty());
        if everything.is_some() {
            tags.retain(|tag| !tag.as_bytes().is_empty());
        }
        let tokens = self.tokens_now(shared, &tags).await;
        let token_of = |tag: &Tag| match everything {
            Some(token) if tag.as_bytes().is_empty() => token,
            _ => tags.binary_search(&tag).ok().and_then(|at| tokens.get(at).copied()?),
        };
        match token_of(&Tag::everything()) {
            Some(token) => self.everything.learn(token),
            // Lost there: what is stored under it would be of no use.
            None if asks_for_everything => self.everything.forget(),
            None => {}
        }
        let standing = |tagged: &Tagged| match token_of(&tagged.tag) {
            Some(now) if now.removed != tagged.token.removed => Standing::Removed,
            Some(now) if now.expired != tagged.token.expired => Standing::Expired,
            Some(_) => Standing::Good,
            None if mutant!(TakesNoTokenForGood) => Standing::Good,
            None => Standing::Removed,
        };
        let judged: Vec<Vec<Standing>> =
            open.iter().map(|(_, tags)| tags.iter().map(standing).collect()).collect();
        for ((vetted, _), standings) in open.into_iter().zip(judged) {
            vetted.is_removed |= standings.contains(&Standing::Removed);
            vetted.record.invalidated |= standings.contains(&Standing::Expired);
        }
    }

    /// What `tags` stand at in the shared tier. None for one whose removal it has not taken yet.
    async fn tokens_now(&self, shared: &Shared<K, V>, tags: &[&Tag]) -> Vec<Option<TagToken>> {
        if tags.is_empty() {
            return Vec::new();
        }
        let names: Vec<Key> = tags.iter().map(|tag| self.namespace.tag(tag)).collect();
        // Before the read as well: a replay that is through when the answer comes has changed what was read.
        let were_pending: Vec<bool> = names.iter().map(|name| self.is_pending(name)).collect();
        let mut tokens = match shared.backend.tags() {
            Some(backend) => backend.tag_tokens(&names).await.unwrap_or_else(|error| {
                self.backend_failed(&error);
                Vec::new()
            }),
            None => Vec::new(),
        };
        for ((token, name), was_pending) in tokens.iter_mut().zip(&names).zip(were_pending) {
            *token = token.filter(|_| !was_pending && !self.is_pending(name));
        }
        tokens
    }

    /// Reads before a load what the tags stand at that it will be stored under, as far as that is known. One
    /// round trip if `declared` has any, or the epoch is to be read.
    pub(crate) async fn capture(&self, shared: &Shared<K, V>, declared: &Tags) -> Captured {
        let Some(tags) = shared.backend.tags() else { return Captured::default() };
        let (known, everything) = (self.known_epochs(), self.everything.known());
        let now = self.clock.coarse();
        let wants_everything = self.is_clearable && self.everything.is_wanted(now);
        if declared.is_empty() && !wants_everything && !self.wants_epochs() {
            return Captured { declared: Vec::new(), epochs: known, everything };
        }
        let all = if wants_everything { declared.and_everything() } else { declared.clone() };
        match self.pin(tags, &all, self.token_life()).await {
            Ok((mut declared, epochs)) => {
                self.learn(epochs);
                let pinned = declared.iter().position(|it| it.tag.as_bytes().is_empty());
                let pinned = pinned.map(|at| declared.remove(at).token);
                pinned.into_iter().for_each(|token| self.everything.pinned(token, now));
                Captured { declared, epochs, everything: pinned.or(everything) }
            }
            Err(error) => {
                self.backend_failed(&error);
                Captured { declared: Vec::new(), epochs: known, everything }
            }
        }
    }

    fn known_epochs(&self) -> Epochs {
        let dependants = self.dependencies.as_ref().and_then(|it| it.epoch.known());
        Epochs { tags: self.epoch.known(), dependants }
    }

    fn wants_epochs(&self) -> bool {
        self.epoch.is_wanted() || self.dependencies.as_ref().is_some_and(|it| it.epoch.is_wanted())
    }

    fn learn(&self, epochs: Epochs) {
        epochs.tags.into_iter().for_each(|token| self.epoch.learn(token));
        if let (Some(dependencies), Some(token)) = (&self.dependencies, epochs.dependants) {
            dependencies.epoch.learn(token);
        }
    }

    pub(crate) fn forget_epochs(&self) {
        self.epoch.forget();
        self.dependencies.iter().for_each(|it| it.epoch.forget());
    }

    /// The epoch that `tag` belongs to.
    fn epoch_of(&self, tag: &Tag) -> &Epoch {
        match &self.dependencies {
            Some(dependencies) if tag.is_of_dependants() => &dependencies.epoch,
            _ => &self.epoch,
        }
    }

    /// Where a value may be stored that was loaded after `captured`, under the tags that its options and its
    /// loader gave it.
    pub(crate) async fn storable(
        &self,
        shared: &Shared<K, V>,
        captured: &Captured,
        all: &Tags,
        kept_for: Duration,
    ) -> Storable {
        let is_declared = |tag: &&Tag| captured.declared.iter().any(|declared| declared.tag == **tag);
        let decided: Vec<Tag> = all.iter().filter(|tag| !is_declared(tag)).cloned().collect();
        let declared = captured.declared.iter().filter(|declared| all.iter().any(|tag| *tag == declared.tag));
        let mut tagged: Vec<Tagged> = declared.cloned().collect();
        if self.is_clearable {
            let Some(token) = captured.everything else { return Storable::Nowhere };
            tagged.push(Tagged { tag: Tag::everything(), token });
        }
        if decided.is_empty() {
            return Storable::Anywhere(tagged);
        }
        let (Some(tags), Ok(decided)) = (shared.backend.tags(), Tags::of(decided)) else {
            return Storable::InMemory;
        };
        decided.iter().for_each(|tag| self.epoch_of(tag).wake());
        match self.pin(tags, &decided, self.token_life().max(kept_for)).await {
            Ok((decided, epochs)) => {
                self.learn(epochs);
                let was_changed = decided.iter().any(|it| !captured.epochs.still_stands(&epochs, &it.tag));
                if was_changed && !mutant!(IgnoresTheEpoch) {
                    self.emit(&Event::Fenced { tier: Tier::Backend });
                    return Storable::Nowhere;
                }
                tagged.extend(decided);
                Storable::Anywhere(tagged)
            }
            Err(error) => {
                self.backend_failed(&error);
                Storable::Nowhere
            }
        }
    }

    /// The tokens that an insert is stored under. One round trip if there are any.
    pub(crate) async fn tokens_for_insert(
        &self,
        shared: &Shared<K, V>,
        tags: &Tags,
        kept_for: Duration,
    ) -> Result<Vec<Tagged>> {
        let tags = &if self.is_clearable { tags.and_everything() } else { tags.clone() };
        if tags.is_empty() {
            return Ok(Vec::new());
        }
        let none = || Error::new(ErrorKind::Unsupported, "insert").detail("the shared tier has no tags");
        let backend = shared.backend.tags().ok_or_else(none)?;
        Ok(self.pin(backend, tags, self.token_life().max(kept_for)).await?.0)
    }

    /// What `tags` stand at, and after them the epochs.
    async fn pin(
        &self,
        backend: &dyn TagBackend,
        tags: &Tags,
        ttl: Duration,
    ) -> Result<(Vec<Tagged>, Epochs)> {
        let mut names: Vec<Key> = tags.iter().map(|tag| self.namespace.tag(tag)).collect();
        names.push(self.namespace.epoch());
        names.extend(self.dependencies.iter().map(|_| self.namespace.epoch_of_dependants()));
        let fresh = self.fresh_tokens(names.len());
        let mut tokens = if mutant!(ReadsTheEpochFirst) {
            let last = tags.len();
            let epoch = backend.pin_tags(&names[last..], &fresh[last..], ttl).await?;
            let tokens = backend.pin_tags(&names[..last], &fresh[..last], ttl).await?;
            [tokens, epoch].concat()
        } else {
            backend.pin_tags(&names, &fresh, ttl).await?
        };
        let mut epochs = tokens.split_off(tags.len().min(tokens.len())).into_iter();
        let epochs = Epochs { tags: epochs.next(), dependants: epochs.next() };
        let tagged = tags.iter().zip(tokens).map(|(tag, token)| Tagged { tag: tag.clone(), token });
        Ok((tagged.collect(), epochs))
    }

    /// Invalidates all that has one of `tags`, everywhere, however many keys that are.
    pub(crate) async fn remove_tags(self: Arc<Self>, tags: Tags, depth: Depth) -> Removal {
        let rotated = match &self.shared {
            Some(shared) => self.rotate(shared, tags.iter().as_slice(), depth).await,
            None => Ok(()),
        };
        let Err(error) = rotated else {
            self.forget_tags(&tags, depth);
            self.tell_tags(&tags, false);
            if depth == Depth::Remove {
                self.delete_by_index(&tags);
            }
            return Removal::Removed;
        };
        // Deferred first, then forgotten, as for a key.
        for tag in tags.iter() {
            self.keep_for_replay(self.namespace.tag(tag), Missed::Tag(tag.clone()));
        }
        self.forget_tags(&tags, Depth::Remove);
        self.tell_tags(&tags, true);
        self.emit_deferred(&error, tags.len());
        Removal::Deferred
    }

    /// Replaces the tokens: the epoch's first, so that no load that began before takes the new ones.
    /// `tags`: of callers, or of dependants.
    pub(crate) async fn rotate(&self, shared: &Shared<K, V>, tags: &[Tag], depth: Depth) -> Result<()> {
        let Some(backend) = shared.backend.tags() else { return Ok(()) };
        let (epoch, life) = match tags.first() {
            None => return Ok(()),
            Some(tag) if tag.is_of_dependants() => (self.namespace.epoch_of_dependants(), UNUSED_TOKEN_LIFE),
            Some(_) => (self.namespace.epoch(), TOKEN_LIFE),
        };
        let mut names = vec![epoch];
        names.extend(tags.iter().map(|tag| self.namespace.tag(tag)));
        let mut fresh = self.fresh_tokens(names.len());
        if mutant!(RotatesTheEpochLast) {
            backend.rotate_tags(&names[1..], &fresh[1..], depth, life).await?;
            names.truncate(1);
            fresh.truncate(1);
        }
        backend.rotate_tags(&names, &fresh, depth, life).await
    }

    /// The local step of a tag's removal.
    pub(crate) fn forget_tags(&self, tags: &Tags, depth: Depth) {
        if mutant!(RemovesTagsBelowOnly) {
            return;
        }
        for tag in tags.iter() {
            self.seen.touch_tag(tag.fingerprint(), depth);
            self.epoch_of(tag).forget();
        }
        // What was read there may have any of them.
        if self.shared.as_ref().is_some_and(|shared| shared.is_bare) && !mutant!(KeepsTheUntagged) {
            self.end_trust();
        }
    }

    pub(crate) fn tell_tags(&self, tags: &Tags, pending: bool) {
        for tag in tags.iter() {
            if !pending {
                self.remember_done(self.namespace.tag(tag), Missed::Tag(tag.clone()));
            }
            self.tell(Subject::Tag { tag: Bytes::copy_from_slice(tag.as_bytes()), pending });
        }
    }

    /// As long as what has them, as far as that is known before it is loaded.
    fn token_life(&self) -> Duration {
        TOKEN_LIFE.max(self.options.longest_life())
    }

    fn fresh_tokens(&self, count: usize) -> Vec<TagToken> {
        (0..count).map(|_| TagToken::draw(&self.entropy)).collect()
    }
}

impl Epochs {
    /// Whether the epoch of `tag` is the same at `now`, and was known.
    fn still_stands(&self, now: &Self, tag: &Tag) -> bool {
        let of = |epochs: &Self| match tag.is_of_dependants() {
            true => epochs.dependants,
            false => epochs.tags,
        };
        of(self).is_some() && of(self) == of(now)
    }
}

/// The stamp of an entry that began to come into being `at` this count.
pub(crate) fn stamp(at: u64, tags: &Tags, version: u64) -> Stamp {
    let prints = (!tags.is_empty()).then(|| tags.iter().map(Tag::fingerprint).collect());
    Stamp { at, tags: prints, version }
}
