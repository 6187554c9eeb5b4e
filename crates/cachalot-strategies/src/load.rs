//! What a loader is given.

use std::sync::{Arc, Mutex, PoisonError};

use cachalot_core::Ttl;

/// The load in progress, handed to the loader, which owns it.
///
/// What depends on the value is set here: a TTL that the source knows, for instance.
#[derive(Debug)]
pub struct Load<K> {
    key: K,
    wishes: Wishes,
}

impl<K> Load<K> {
    pub(crate) fn new(key: K) -> Self {
        Self { key, wishes: Wishes::default() }
    }

    pub(crate) fn wishes(&self) -> Wishes {
        self.wishes.clone()
    }

    /// The key to load.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Sets the TTL of what this load gives, instead of the options'. Zero: do not store.
    pub fn ttl(&self, ttl: impl Into<Ttl>) {
        *self.wishes.ttl.lock().unwrap_or_else(PoisonError::into_inner) = Some(ttl.into());
    }
}

/// What the loader asked for; shared with the flight, which reads it when the load has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    ttl: Arc<Mutex<Option<Ttl>>>,
}

impl Wishes {
    pub(crate) fn ttl(&self) -> Option<Ttl> {
        *self.ttl.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
