//! TinyUFO, of pingora. Compares hashes, not keys.

use std::hint::black_box;

use tinyufo::TinyUfo;

use super::{Data, Key, Kind, Subject};

/// The fast layout, not the compact one. Its hasher is ahash, always.
pub(crate) struct Ufo<K: Key, V: Data>(TinyUfo<K, V>);

impl<K: Key, V: Data> Subject<K, V> for Ufo<K, V> {
    const NAME: &'static str = "TinyUFO";
    const KIND: Kind = Kind::Peer;

    fn holding(entries: usize) -> Self {
        Self(TinyUfo::new(entries, entries))
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        drop(self.0.put(key, value, 1));
    }
}
