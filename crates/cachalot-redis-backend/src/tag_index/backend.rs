//! The index as a cache drives it.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Key, Namespace, Result, Tag, TagIndexBackend, TagWalk, Tags};

use super::{TagIndex, TagKeys, TagRemoval};

#[async_trait]
impl TagIndexBackend for TagIndex {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    async fn add(&self, tags: &Tags, key: &Key, ttl: Duration) -> Result<()> {
        self.add(tags, key, ttl).await
    }

    fn keys(&self, tag: &Tag) -> Box<dyn TagWalk<Vec<Key>>> {
        Box::new(self.keys(tag))
    }

    fn removal(&self, tag: &Tag) -> Box<dyn TagWalk<u64>> {
        Box::new(self.remove_tag(tag))
    }
}

#[async_trait]
impl TagWalk<Vec<Key>> for TagKeys {
    async fn next(&mut self) -> Result<Option<Vec<Key>>> {
        self.next().await
    }
}

#[async_trait]
impl TagWalk<u64> for TagRemoval {
    async fn next(&mut self) -> Result<Option<u64>> {
        self.next().await
    }
}
