//! The versions of a shared tier: what is known to be the newest of each key.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Key, Result};

/// The floors of a [`Backend`](crate::Backend): for a key, the newest version that anybody has told it of. Whoever
/// is about to store something raises the floor first, and stores nothing that is below. They lie beside the
/// records, under names that no record has ([`Namespace::floor`](crate::Namespace::floor)).
///
/// A floor that is lost, by an eviction or a server that forgets, is as one that has ended: what is older may then
/// be stored. It cannot fail closed as a [tag](crate::TagBackend) does, since a key that is new has none either.
///
/// ```
/// # use cachalot_core::{Key, Result, VersionBackend};
/// # use std::time::Duration;
/// # async fn example(versions: &dyn VersionBackend) -> Result<()> {
/// let (name, minute) = (Key::new("users^7"), Duration::from_secs(60));
/// assert_eq!(versions.raise(&name, 3, minute).await?, 0);
/// assert_eq!(versions.raise(&name, 2, minute).await?, 3); // 2 is outdated: not to be stored
/// assert_eq!(versions.raise(&name, 0, minute).await?, 3); // only reads
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait VersionBackend: Send + Sync {
    /// Raises the floor under `name` to `version`, if it is lower, and lets it live for `ttl` more at least, also if
    /// it is not. The floor that stood before; 0 if there was none. A `version` of 0 only reads. One step, and
    /// one round trip.
    ///
    /// It may be done twice: a second time changes nothing.
    ///
    /// # Errors
    /// Unavailable or timeout. It may have been raised, or may still be.
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64>;
}
