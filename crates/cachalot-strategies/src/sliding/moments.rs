//! A moment for each of many keys, in memory that does not grow.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cachalot_core::Timestamp;

/// The last moment that was noted for a key, as long as no other key has taken its place. One key in 16 million that
/// shares a place is taken for another: good for what may be early or late, not for what must be right.
pub(super) struct Moments {
    /// Of 8 bytes each: the upper 24 bits of a key's hash, and milliseconds since the base. Zero: nothing.
    places: OnceLock<Box<[AtomicU64]>>,
    hasher: RandomState,
    base: Timestamp,
}

/// 128 KiB, made when the first moment is noted.
const PLACES: usize = 1 << 14;
const MILLIS: u32 = 40;

impl Moments {
    /// For moments after `base`, for 34 years.
    pub(super) fn after(base: Timestamp) -> Self {
        Self {
            places: OnceLock::new(),
            hasher: RandomState::new(),
            base: base.back(std::time::Duration::from_millis(1)),
        }
    }

    pub(super) fn note(&self, key: &impl Hash, at: Timestamp) {
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let hash = self.hasher.hash_one(key);
        let millis = (at.since(self.base).as_millis() as u64).clamp(1, (1 << MILLIS) - 1);
        let moment = hash >> MILLIS << MILLIS | millis;
        places[hash as usize % PLACES].store(moment, Ordering::Relaxed);
    }

    pub(super) fn noted(&self, key: &impl Hash) -> Option<Timestamp> {
        let hash = self.hasher.hash_one(key);
        let moment = self.places.get()?[hash as usize % PLACES].load(Ordering::Relaxed);
        let is_its_own = moment != 0 && moment >> MILLIS == hash >> MILLIS;
        let millis = moment & ((1 << MILLIS) - 1);
        is_its_own.then(|| self.base + std::time::Duration::from_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moment_of_a_key_is_found_and_no_memory_grows() {
        let base = Timestamp::from_millis(5_000_000);
        let moments = Moments::after(base);
        assert_eq!(moments.noted(&1), None);
        moments.note(&1, base);
        assert_eq!(moments.noted(&1), Some(base));
        moments.note(&1, base + std::time::Duration::from_secs(9));
        assert_eq!(moments.noted(&1), Some(base + std::time::Duration::from_secs(9)));
        for key in 0..1_000_000_u32 {
            moments.note(&key, base);
        }
        let known = (0..1_000_000_u32).filter(|key| moments.noted(key).is_some()).count();
        assert!((PLACES * 9 / 10..=PLACES + 10).contains(&known), "{known}");
        assert_eq!(moments.places.get().unwrap().len(), PLACES);
    }
}
