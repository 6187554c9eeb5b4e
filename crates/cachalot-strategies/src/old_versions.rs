//! Caches whose keys name versions: dropping what is old.

use std::hash::Hash;
use std::ops::{Bound, RangeBounds};

use cachalot_core::{Error, ErrorKind, Result, Store, Versioned};

use crate::cache::Cache;
use crate::write::Removal;

impl<K, V, S> Cache<Versioned<K>, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<Versioned<K>, V>,
{
    /// Forgets those `versions` of `key`, in every tier and process, whether or not they are there: 10,000 at most, in
    /// few round trips. A version that is read or inserted again is a value like any other.
    ///
    /// Each version is a key of its own ([`Versioned`]), so old ones do no harm but take their place until their TTL.
    /// Where nobody knows which there are, [`remove_pattern`](Cache::remove_pattern) finds them, slowly. For one
    /// value per key that only grows newer see [`versioned`](crate::CacheBuilder::versioned).
    ///
    /// t = 0 revisions 5 and 6 of a page are cached, and read side by side · t = 1 s 6 is published: readers ask for 6 ·
    /// t = 2 s `remove_versions(&page, ..6)`: 5 is gone, everywhere; 6 was not touched.
    ///
    /// ```
    /// # use cachalot_core::{Entry, Versioned};
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache: Cache<Versioned<u64>, String, Memory<Versioned<u64>, Arc<Entry<String>>>> =
    /// #     Cache::builder("pages").memory(Memory::entries(10)).build()?;
    /// cache.insert(Versioned::new(42, 5), "draft".into()).await?;
    /// cache.insert(Versioned::new(42, 6), "final".into()).await?;
    /// cache.remove_versions(&42, 1..6).await?;
    /// assert!(cache.get_local(&Versioned::new(42, 5)).is_none());
    /// assert!(cache.get_local(&Versioned::new(42, 6)).is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if they are too many: a range has two ends here. Else as
    /// [`remove`](Cache::remove). [`Removal::Deferred`] if one of them is.
    ///
    /// # Dropping the future
    /// The removal goes on.
    pub async fn remove_versions(&self, key: &K, versions: impl RangeBounds<u64>) -> Result<Removal> {
        let keys = bounded(versions)?.map(|version| Versioned::new(key.clone(), version)).collect();
        let work = self.engine.clone().remove_many(keys);
        let removals = self.engine.detached("remove_versions", work).await?;
        let is_deferred = removals.contains(&Removal::Deferred);
        Ok(if is_deferred { Removal::Deferred } else { Removal::Removed })
    }
}

/// How many versions one call removes.
const MOST: u64 = 10_000;

fn bounded(versions: impl RangeBounds<u64>) -> Result<impl Iterator<Item = u64>> {
    let first = match versions.start_bound() {
        Bound::Unbounded => Some(0),
        Bound::Included(first) => Some(*first),
        Bound::Excluded(before) => before.checked_add(1),
    };
    let last = match versions.end_bound() {
        Bound::Unbounded => Some(u64::MAX),
        Bound::Included(last) => Some(*last),
        Bound::Excluded(end) => end.checked_sub(1),
    };
    let range = first.zip(last).filter(|(first, last)| first <= last);
    if range.is_some_and(|(first, last)| last - first >= MOST) {
        let detail = format!("one call removes {MOST} versions at most; give it a range with two ends");
        return Err(Error::new(ErrorKind::Config, "remove_versions").detail(detail));
    }
    Ok(range.into_iter().flat_map(|(first, last)| first..=last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(versions: impl RangeBounds<u64>) -> Vec<u64> {
        bounded(versions).unwrap().collect()
    }

    #[test]
    fn a_range_is_what_it_says() {
        assert_eq!(all(3..5), [3, 4]);
        assert_eq!(all(3..=5), [3, 4, 5]);
        assert_eq!(all(..3), [0, 1, 2]);
        assert_eq!(all(u64::MAX..), [u64::MAX]);
        assert_eq!(all(u64::MAX - 1..=u64::MAX).len(), 2);
        assert_eq!(all((Bound::Excluded(3), Bound::Excluded(5))), [4]);
        assert!(all(5..5).is_empty() && all(..0).is_empty());
        assert!(all((Bound::Excluded(u64::MAX), Bound::Unbounded)).is_empty());
        #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
        let backwards = all(5..3);
        assert!(backwards.is_empty());
        assert_eq!(all(0..MOST).len(), 10_000);
    }

    #[test]
    fn a_range_without_an_end_is_an_error() {
        for error in [bounded(..).err(), bounded(7..).err(), bounded(0..=MOST).err()] {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("10000 versions at most"), "{error}");
        }
    }
}
