//! quick_cache: the fastest of the bounded ones, without expiry.

use std::hint::black_box;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use super::{Data, Key, Kind, Subject};

/// Hashed by ahash; capacity and expected entries given.
pub(crate) struct Quick<K, V>(Cache<K, V, UnitWeighter, ahash::RandomState>);

impl<K: Key, V: Data> Subject<K, V> for Quick<K, V> {
    const NAME: &'static str = "quick_cache";
    const KIND: Kind = Kind::Peer;

    fn holding(entries: usize) -> Self {
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(entries).weight_capacity(entries as u64);
        match options.build() {
            Ok(options) => Self(Cache::with_options(
                options,
                UnitWeighter,
                ahash::RandomState::new(),
                DefaultLifecycle::default(),
            )),
            Err(error) => panic!("no quick_cache: {error}"),
        }
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}
