//! The caches of other projects, each in the settings that measured best for it.

mod cached;
mod foyer;
mod moka;
mod quick;
mod scc;
mod tiny_ufo;

use super::{Data, Key, Kind, Subject, Visitor};

pub(super) use moka::dying_at;

pub(super) fn for_each<K: Key, V: Data>(visitor: &mut impl Visitor<K, V>) {
    visitor.visit::<quick::Quick<K, V>>();
    visitor.visit::<moka::Moka<K, V, false>>();
    visitor.visit::<moka::Moka<K, V, true>>();
    visitor.visit::<foyer::S3Fifo<K, V>>();
    visitor.visit::<foyer::TinyLfu<K, V>>();
    visitor.visit::<tiny_ufo::Ufo<K, V>>();
    visitor.visit::<scc::Scc<K, V>>();
    visitor.visit::<cached::Lru<K, V>>();
    visitor.visit::<cached::LruTtl<K, V>>();
}
