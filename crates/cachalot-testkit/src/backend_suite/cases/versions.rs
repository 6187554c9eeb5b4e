//! The floors of versions.

use cachalot_core::{Pattern, SweepCursor};

use super::super::{BackendSubject, LONG, MS};

pub async fn a_floor_that_nobody_raised_is_none(it: &BackendSubject) {
    assert_eq!(it.raise("floor", 0).await, 0);
    assert_eq!(it.raise("floor", 0).await, 0, "reading raises nothing");
    assert_eq!(it.raise("floor", 7).await, 0);
    assert_eq!(it.raise("other", 0).await, 0);
}

pub async fn a_floor_answers_what_stood_before(it: &BackendSubject) {
    assert_eq!(it.raise("floor", 3).await, 0);
    assert_eq!(it.raise("floor", 3).await, 3);
    assert_eq!(it.raise("floor", 5).await, 3);
    assert_eq!(it.raise("floor", 0).await, 5);
}

pub async fn a_floor_never_goes_down(it: &BackendSubject) {
    it.raise("floor", 9).await;
    for lower in [8, 1, 0] {
        assert_eq!(it.raise("floor", lower).await, 9);
        assert_eq!(it.raise("floor", 0).await, 9, "after {lower}");
    }
}

pub async fn all_64_bits_of_a_version_count(it: &BackendSubject) {
    let steps = [255, 256, 1 << 31, 1 << 32, 1 << 53, (1 << 53) + 1, i64::MAX as u64, 1 << 63, u64::MAX];
    let mut before = 0;
    for version in steps {
        assert_eq!(it.raise("floor", version).await, before, "{version:#x} is more");
        assert_eq!(it.raise("floor", version - 1).await, version, "{:#x} is less", version - 1);
        before = version;
    }
}

pub async fn a_floor_lives_for_as_long_as_asked(it: &BackendSubject) {
    it.raise_for("floor", 3, it.short()).await;
    let there = || async { assert_eq!(it.raise("floor", 0).await, 3) };
    it.pass_checking(it.short(), there).await;
    assert_eq!(it.raise("floor", 0).await, 0);
    assert_eq!(it.raise("floor", 2).await, 0, "and then all may begin anew");
}

pub async fn whoever_names_a_version_prolongs_the_floors_life(it: &BackendSubject) {
    for version in [2, 3, 4] {
        let name = format!("floor{version}");
        it.raise_for(&name, 3, it.short()).await;
        it.raise_for(&name, version, LONG).await;
    }
    it.pass(it.short() + MS).await;
    for version in [2, 3, 4] {
        assert_eq!(it.raise(&format!("floor{version}"), 0).await, version.max(3));
    }
}

pub async fn a_floors_life_is_never_cut(it: &BackendSubject) {
    for version in [2, 3, 4] {
        let name = format!("floor{version}");
        it.raise_for(&name, 3, LONG).await;
        it.raise_for(&name, version, it.short()).await;
    }
    it.pass(it.short() + MS).await;
    for version in [2, 3, 4] {
        assert_eq!(it.raise(&format!("floor{version}"), 0).await, version.max(3));
    }
}

pub async fn a_floor_beyond_all_bounds_of_time_is_kept(it: &BackendSubject) {
    it.raise_for("floor", 3, std::time::Duration::MAX).await;
    assert_eq!(it.raise("floor", 0).await, 3);
}

pub async fn a_sweep_leaves_floors(it: &BackendSubject) {
    let users = it.namespace("users");
    let key = users.key(&7u8);
    it.store(&key, "v").await;
    let floors = it.backend.versions().expect("versions");
    floors.raise(&users.floor(&key), 3, LONG).await.unwrap();
    it.backend.sweep(&Pattern::any().within(&users), &SweepCursor::START).await.unwrap();
    assert_eq!(floors.raise(&users.floor(&key), 0, LONG).await.unwrap(), 3);
}
