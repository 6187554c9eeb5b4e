//! A write before it is begun: all that can be refused is refused here, before the source is touched.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::envelope::Tagged;
use cachalot_core::{EntryOptions, Error, ErrorKind, Key, Meta, Put, Result, Stamp, Store};

use crate::batch::{AT_ONCE, pipelined};
use crate::engine::Engine;
use crate::tags;

pub(super) struct Draft<K, V> {
    pub(super) key: K,
    /// `None`: it is to be deleted.
    pub(super) value: Option<V>,
    /// `None`: neither the value nor its absence is to be kept.
    pub(super) kept: Option<Kept>,
    pub(super) version: u64,
    pub(super) below: Below,
}

/// How it is to be kept in memory.
pub(super) struct Kept {
    pub(super) meta: Meta,
    pub(super) stamp: Stamp,
}

/// What is to become of the shared tier.
pub(super) enum Below {
    /// There is none.
    None,
    /// It could not be reached: what it has is to be removed when it can.
    Unreached(Key, Error),
    /// To hold, and to store if there is something to store.
    Reached { key: Key, put: Option<Put>, tags: Vec<Tagged> },
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// One draft for each key; the last of several writes counts.
    pub(super) async fn drafts(
        self: &Arc<Self>,
        writes: Vec<(K, Option<V>)>,
        options: &EntryOptions,
    ) -> Result<Vec<Draft<K, V>>> {
        self.check_versioned("write", options.version)?;
        if let Some(shared) = &self.shared
            && shared.backend.leases().is_none()
        {
            return Err(Error::new(ErrorKind::Unsupported, "write").detail("the shared tier has no leases"));
        }
        let drafts = writes.into_iter().map(|(key, value)| self.draft(key, value, options));
        pipelined(AT_ONCE, drafts).await.into_iter().collect()
    }

    async fn draft(&self, key: K, value: Option<V>, options: &EntryOptions) -> Result<Draft<K, V>> {
        let tags = self.tags_of_insert(&key, &options.tags)?;
        let (began, now, version) = (self.seen.count(), self.clock.now(), options.version);
        let meta = match &value {
            Some(_) => self.own_times(options).stamp(now, Duration::ZERO, &self.entropy),
            None => self.own_times(options).stamp_negative(now, Duration::ZERO, &self.entropy),
        };
        let stamp = tags::stamp(began, &tags, version);
        let kept = meta.map(|meta| Kept { meta: self.in_memory(meta, now), stamp });
        let Some((shared, shared_key)) = self.shared_key(&key) else {
            return Ok(Draft { key, value, kept, version, below: Below::None });
        };
        let below = match meta {
            None => Below::Reached { key: shared_key, put: None, tags: Vec::new() },
            Some(meta) => match self.tokens_for_insert(shared, &tags, meta.kept_for()).await {
                Ok(tagged) => {
                    let put = self.put(shared, &shared_key, value.as_ref(), &meta, &tagged, version)?;
                    Below::Reached { key: shared_key, put: Some(put), tags: tagged }
                }
                Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
                Err(error) => Below::Unreached(shared_key, error),
            },
        };
        Ok(Draft { key, value, kept, version, below })
    }
}
