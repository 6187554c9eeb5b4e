//! What happens while a snapshot is put back.

use cachalot::Memory;
use cachalot_core::{Entropy, Tags};
use cachalot_strategies::{Cache, SnapshotFile};

use super::{Node, Scene};

fn cache() -> Node {
    Cache::builder("restored").memory(Memory::entries(100)).build().unwrap()
}

/// What memory has when all is put back that a process had before, an old value, and this was done meanwhile: after the
/// call, and before anything was read from the file.
async fn after<T>(meanwhile: impl AsyncFnOnce(&Node) -> T) -> Option<String> {
    let number = u128::from_le_bytes(Entropy::thread().draw_128());
    let file = SnapshotFile::at(std::env::temp_dir().join(format!("cachalot-{number:x}.snapshot")));
    let before = cache();
    let people = before.with(|options| options.tags(Tags::new(["people"]).unwrap()));
    people.insert(1, "old".to_owned()).await.unwrap();
    before.snapshot(file.clone()).await.unwrap();

    let cache = cache();
    let restoring = cache.restore(file);
    meanwhile(&cache).await;
    assert!(restoring.await.unwrap().is_complete);
    cache.get_local(&1).map(|found| found.to_string())
}

/// What was removed since the restore was called is not there after it.
pub(super) fn a_removal_during_a_restore() -> Scene {
    Box::pin(async { after(async |cache| cache.remove(&1).await.unwrap()).await.is_none() })
}

/// Nor is what has a tag that was.
pub(super) fn a_tag_during_a_restore() -> Scene {
    Box::pin(async { after(async |cache| cache.remove_tag("people").await.unwrap()).await.is_none() })
}

/// What was loaded since is newer, and stays.
pub(super) fn a_load_during_a_restore() -> Scene {
    Box::pin(async {
        let loads = async |cache: &Node| {
            cache.get_or_load(&1, |_| async { Ok("new".to_owned()) }).await.unwrap();
        };
        after(loads).await.as_deref() == Some("new")
    })
}
