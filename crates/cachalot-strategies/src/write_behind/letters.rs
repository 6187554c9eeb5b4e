//! Dead letters as people see them.

use std::fmt;
use std::hash::Hash;

use cachalot_core::{Error, ErrorKind, Result, Source, Store};

use super::WriteBehind;
use super::bounds::{Key, Value};
use super::inner::Inner;
use crate::cached::Cached;
use crate::write_error::WriteError;

/// A write that the source refuses for good.
pub struct DeadLetter<K, V> {
    /// To [`replay`](crate::WriteBehind::replay) or [`discard`](crate::WriteBehind::discard) it by.
    pub id: u64,
    /// Of which key.
    pub key: K,
    /// What was to be stored; `None`: the key was to be deleted.
    pub value: Option<Cached<V>>,
    /// How often it has failed.
    pub attempts: u32,
    /// What the source said last.
    pub reason: String,
    /// Whether a newer write of the key came: to replay this one would undo it.
    pub is_superseded: bool,
}

impl<K: Clone, V> Clone for DeadLetter<K, V> {
    fn clone(&self) -> Self {
        let Self { key, value, reason, .. } = self;
        Self { key: key.clone(), value: value.clone(), reason: reason.clone(), ..*self }
    }
}

/// Without the value.
impl<K: fmt::Debug, V> fmt::Debug for DeadLetter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("is_deletion", &self.value.is_none())
            .field("attempts", &self.attempts)
            .field("reason", &self.reason)
            .field("is_superseded", &self.is_superseded)
            .finish()
    }
}

impl<K, V, S, D> WriteBehind<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Writes that the source refuses for good, oldest first. Reads do not see them any more.
    ///
    /// They count against the bounds, until they are [replayed](WriteBehind::replay) or
    /// [discarded](WriteBehind::discard).
    pub fn dead_letters(&self) -> Vec<DeadLetter<K, V>> {
        self.inner().dead_letters()
    }

    /// Queues a dead letter again, as a new write: after the source has been mended, say.
    ///
    /// # Errors
    /// [`Conflict`](cachalot_core::ErrorKind::Conflict): a newer write of the key came, which it would undo; not if
    /// values are merged. [`Config`](cachalot_core::ErrorKind::Config): there is none of this id. Else as
    /// [`put`](WriteBehind::put).
    ///
    /// # Dropping the future
    /// It may still be done.
    pub async fn replay(&self, id: u64) -> Result<(), WriteError<D::Error>> {
        Ok(self.inner().replay(id).await?)
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// [`Config`](cachalot_core::ErrorKind::Config): there is none of this id.
    pub fn discard(&self, id: u64) -> Result<(), WriteError<D::Error>> {
        Ok(self.inner().discard(id)?)
    }
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    pub(super) fn dead_letters(&self) -> Vec<DeadLetter<K, V>> {
        let at = self.now();
        let queue = self.lock();
        let letter = |(id, dead): (u64, &super::queue::Dead<K, V>)| DeadLetter {
            id,
            key: dead.key.clone(),
            value: Cached::pending(dead.entry.clone(), at),
            attempts: dead.attempts,
            reason: dead.reason.clone(),
            is_superseded: dead.is_superseded,
        };
        queue.dead().map(letter).collect()
    }

    pub(super) fn discard(&self, id: u64) -> Result<()> {
        let mut queue = self.lock();
        if !queue.forget_dead(id) {
            return Err(unknown("discard", id));
        }
        self.note(&mut queue);
        drop(queue);
        self.stir();
        Ok(())
    }
}

pub(super) fn unknown(operation: &'static str, id: u64) -> Error {
    Error::new(ErrorKind::Config, operation).detail(format!("there is no dead letter {id}"))
}
