//! A removal while a snapshot is put back.

use super::{Engine, Scene};
use cachalot::Memory;
use cachalot_core::Entropy;
use cachalot_strategies::{Cache, SnapshotFile};

/// What was removed since the restore was called is not there after it.
pub(super) fn a_removal_during_a_restore() -> Scene {
    Box::pin(async {
        let build = || Cache::<u64, String, Engine>::builder("restored").memory(Memory::entries(100)).build();
        let number = u128::from_le_bytes(Entropy::thread().draw_128());
        let file = SnapshotFile::at(std::env::temp_dir().join(format!("cachalot-{number:x}.snapshot")));
        let before = build().unwrap();
        before.insert(1, "old".to_owned()).await.unwrap();
        before.snapshot(file.clone()).await.unwrap();

        let cache = build().unwrap();
        let restoring = cache.restore(file);
        cache.remove(&1).await.unwrap();
        let restored = restoring.await.unwrap();
        restored.is_complete && cache.get_local(&1).is_none()
    })
}
