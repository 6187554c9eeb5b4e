//! One function per sentence of the contract, named after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cachalot_core::{Commit, Entry, Freshness, Meta, Store, StoreCursor};

use super::{MS, StoreSubject, seconds};

/// What every case asks of a store.
pub trait Tested: Store<String, u64> {}

impl<S: Store<String, u64>> Tested for S {}

pub fn nothing_is_held_at_first<S: Tested>(it: &StoreSubject<S>) {
    assert!(it.store.get("k").is_none());
    let stats = it.store.stats();
    assert_eq!((stats.entries, stats.weight), (0, 0));
}

pub fn what_was_committed_is_found<S: Tested>(it: &StoreSubject<S>) {
    let entry = it.entry(1);
    it.put_entry("k", entry.clone());
    let hit = it.store.get("k").expect("a hit");
    assert!(Arc::ptr_eq(&hit.entry, &entry), "the handle itself");
    assert!(it.store.get("k").is_some(), "a read takes nothing away");
}

pub fn a_string_key_is_looked_up_by_str<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    let (owned, borrowed) = ("k".to_owned(), "k");
    assert_eq!(it.store.get(&owned).map(|hit| hit.entry.value), Some(Some(1)));
    assert_eq!(it.store.get(borrowed).map(|hit| hit.entry.value), Some(Some(1)));
    assert!(it.store.expire(borrowed, seconds(5)));
    assert!(it.store.invalidate(borrowed).is_some());
    assert!(it.store.get(&owned).is_none());
}

pub fn keys_do_not_meet<S: Tested>(it: &StoreSubject<S>) {
    let keys: Vec<String> = (0..100).map(|n| format!("key:{n}")).collect();
    for (key, value) in keys.iter().zip(0..) {
        it.put(key, value);
    }
    for (key, value) in keys.iter().zip(0..) {
        assert_eq!(it.value(key), Some(value), "{key}");
    }
    it.store.invalidate("key:7");
    let left = keys.iter().filter(|key| it.value(key).is_some()).count();
    assert_eq!(left, 99);
}

pub fn a_negative_entry_is_held<S: Tested>(it: &StoreSubject<S>) {
    let meta = Meta::new(it.time.now(), seconds(10), seconds(30), Duration::ZERO);
    it.put_entry("k", Arc::new(Entry::new(None, meta)));
    let hit = it.store.get("k").expect("a hit");
    assert_eq!((hit.entry.value, hit.freshness), (None, Freshness::Fresh));
}

pub fn a_handle_survives_the_entry<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    let hit = it.store.get("k").expect("a hit");
    it.store.invalidate("k");
    it.store.clear();
    assert_eq!(hit.entry.value, Some(1));
}

pub fn the_newest_of_two_commits_wins<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.put("k", 2);
    assert_eq!(it.value("k"), Some(2));
    assert_eq!(it.store.stats().entries, 1);
}

pub fn two_fences_of_a_key_both_commit<S: Tested>(it: &StoreSubject<S>) {
    let (first, second) = (it.begin("k"), it.begin("k"));
    assert_eq!(it.commit(second, "k", 2), Commit::Stored);
    assert_eq!(it.commit(first, "k", 1), Commit::Stored);
    assert_eq!(it.value("k"), Some(1), "the later commit");
}

pub fn a_commit_after_an_invalidation_is_refused<S: Tested>(it: &StoreSubject<S>) {
    refused_after(it, |it, key| drop(it.store.invalidate(key)));
}

pub fn a_commit_after_an_expire_is_refused<S: Tested>(it: &StoreSubject<S>) {
    refused_after(it, |it, key| {
        it.store.expire(key, seconds(5));
    });
}

pub fn a_commit_after_an_invalidate_if_is_refused<S: Tested>(it: &StoreSubject<S>) {
    refused_after(it, |it, key| it.invalidate_if(|held| held == key));
}

pub fn a_commit_after_a_clear_is_refused<S: Tested>(it: &StoreSubject<S>) {
    refused_after(it, |it, _| it.store.clear());
}

pub fn a_commit_after_void_all_is_refused<S: Tested>(it: &StoreSubject<S>) {
    refused_after(it, |it, _| it.store.void_all());
}

/// Whether something is stored under the key or not makes no difference.
fn refused_after<S: Tested>(it: &StoreSubject<S>, revoke: impl Fn(&StoreSubject<S>, &str)) {
    it.put("stored", 1);
    for key in ["stored", "absent"] {
        let (first, second) = (it.begin(key), it.begin(key));
        revoke(it, key);
        assert_eq!(it.commit(first, key, 2), Commit::Revoked, "{key}");
        assert_eq!(it.commit(second, key, 2), Commit::Revoked, "{key}, another fence");
        assert_ne!(it.value(key), Some(2), "{key}");
    }
}

pub fn a_refused_commit_changes_nothing<S: Tested>(it: &StoreSubject<S>) {
    let late = it.begin("k");
    it.store.invalidate("k");
    it.put("k", 2);
    assert_eq!(it.commit(late, "k", 1), Commit::Revoked);
    assert_eq!(it.value("k"), Some(2));
    let fence = it.begin("k");
    assert_eq!(it.commit(fence, "k", 3), Commit::Stored, "it revokes nothing either");
}

pub fn a_fence_begun_after_the_invalidation_commits<S: Tested>(it: &StoreSubject<S>) {
    let revoke: [fn(&StoreSubject<S>); 4] = [
        |it| drop(it.store.invalidate("k")),
        |it| assert!(it.store.expire("k", seconds(5))),
        |it| it.store.clear(),
        |it| it.store.void_all(),
    ];
    for (revoke, value) in revoke.into_iter().zip(1..) {
        revoke(it);
        let fence = it.begin("k");
        assert_eq!(it.commit(fence, "k", value), Commit::Stored);
        assert_eq!(it.value("k"), Some(value));
    }
}

pub fn an_invalidation_of_another_key_does_no_harm<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    let fence = it.begin("k");
    it.store.invalidate("other");
    it.store.expire("another", seconds(5));
    assert_eq!(it.value("k"), Some(1));
    // One fence may guard many keys, so a store may refuse here. It must say so, and then change nothing.
    match it.commit(fence, "k", 2) {
        Commit::Stored => assert_eq!(it.value("k"), Some(2)),
        Commit::Revoked => assert_eq!(it.value("k"), Some(1)),
        Commit::Rejected => panic!("the entry is well within its life"),
    }
}

pub fn an_invalidation_drops_the_entry_and_gives_it_back<S: Tested>(it: &StoreSubject<S>) {
    let entry = it.entry(1);
    it.put_entry("k", entry.clone());
    let dropped = it.store.invalidate("k").expect("what was held");
    assert!(Arc::ptr_eq(&dropped, &entry), "the handle itself");
    assert!(it.store.get("k").is_none());
    assert!(it.store.invalidate("k").is_none(), "it is gone");
}

pub fn invalidating_nothing_gives_nothing<S: Tested>(it: &StoreSubject<S>) {
    it.put("other", 1);
    assert!(it.store.invalidate("k").is_none());
    assert_eq!(it.value("other"), Some(1));
}

pub fn expire_marks_the_entry_as_invalidated<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.put("other", 2);
    assert!(it.store.expire("k", seconds(5)));
    assert_eq!(it.freshness("k"), Some(Freshness::Invalidated));
    assert_eq!(it.value("k"), Some(1));
    assert_eq!(it.freshness("other"), Some(Freshness::Fresh));
    // Beyond the soft expiry it still is what it was marked as: never to be served as merely stale.
    it.put_entry("short", it.entry_for(3, seconds(1), seconds(30)));
    assert!(it.store.expire("short", seconds(5)));
    it.time.advance(seconds(2));
    assert_eq!(it.freshness("short"), Some(Freshness::Invalidated));
}

pub fn expire_keeps_the_entry_for_at_most_keep<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.store.expire("k", seconds(5));
    it.time.advance(seconds(5) - MS);
    assert_eq!(it.freshness("k"), Some(Freshness::Invalidated));
    it.time.advance(MS);
    assert!(it.store.get("k").is_none());
}

pub fn expire_never_prolongs_a_life<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.put("twice", 2);
    it.store.expire("k", Duration::MAX);
    it.store.expire("twice", seconds(5));
    it.store.expire("twice", seconds(20));
    it.time.advance(seconds(5));
    assert!(it.store.get("twice").is_none(), "the first keep counts");
    it.time.advance(seconds(25) - MS);
    assert_eq!(it.freshness("k"), Some(Freshness::Invalidated));
    it.time.advance(MS);
    assert!(it.store.get("k").is_none(), "its own hard expiry counts");
}

pub fn expire_for_no_time_drops_the_entry<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.store.expire("k", Duration::ZERO);
    assert!(it.store.get("k").is_none());
}

pub fn expiring_nothing_says_so<S: Tested>(it: &StoreSubject<S>) {
    assert!(!it.store.expire("k", seconds(5)));
    it.put("k", 1);
    it.store.invalidate("k");
    assert!(!it.store.expire("k", seconds(5)));
    assert!(it.store.get("k").is_none());
}

pub fn a_commit_after_an_expire_is_fresh_again<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.store.expire("k", seconds(5));
    it.put("k", 2);
    assert_eq!(it.freshness("k"), Some(Freshness::Fresh));
    it.time.advance(seconds(5));
    assert_eq!(it.value("k"), Some(2), "the old keep does not count");
}

pub fn an_entry_is_fresh_before_its_soft_expiry<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    for step in [Duration::ZERO, seconds(10) - MS] {
        it.time.advance(step);
        let hit = it.store.get("k").expect("a hit");
        assert_eq!((hit.freshness, hit.stale_for), (Freshness::Fresh, Duration::ZERO));
    }
}

pub fn an_entry_is_stale_from_its_soft_expiry_on<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.time.advance(seconds(10));
    let hit = it.store.get("k").expect("a hit");
    assert_eq!((hit.freshness, hit.stale_for), (Freshness::Stale, Duration::ZERO));
    it.time.advance(seconds(20) - MS);
    let hit = it.store.get("k").expect("a hit");
    assert_eq!((hit.freshness, hit.stale_for), (Freshness::Stale, seconds(20) - MS));
}

pub fn an_entry_is_never_served_from_its_hard_expiry_on<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.put_entry("no stale time", it.entry_for(2, seconds(10), seconds(10)));
    it.time.advance(seconds(10) - MS);
    assert_eq!(it.value("no stale time"), Some(2));
    it.time.advance(MS);
    assert!(it.store.get("no stale time").is_none());
    it.time.advance(seconds(20) - MS);
    assert_eq!(it.value("k"), Some(1));
    it.time.advance(MS);
    assert!(it.store.get("k").is_none());
    it.time.advance(Duration::from_secs(1 << 40));
    assert!(it.store.get("k").is_none());
}

pub fn an_entry_without_end_stays_fresh<S: Tested>(it: &StoreSubject<S>) {
    it.put_entry("k", it.entry_for(1, Duration::MAX, Duration::MAX));
    it.time.advance(Duration::from_secs(1 << 40));
    assert_eq!(it.freshness("k"), Some(Freshness::Fresh));
    it.time.advance(Duration::MAX);
    assert_eq!(it.freshness("k"), Some(Freshness::Fresh));
}

pub fn a_hit_tells_the_time_it_was_judged_by<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.time.advance(seconds(3));
    assert_eq!(it.store.get("k").expect("a hit").at, it.time.now());
}

pub fn a_glimpse_shows_what_a_read_gives<S: Tested>(it: &StoreSubject<S>) {
    it.put("ends", 1);
    it.put("expired", 2);
    it.put_entry("endless", it.entry_for(3, Duration::MAX, Duration::MAX));
    it.store.expire("expired", seconds(20));
    for _ in 0..4 {
        for key in ["ends", "expired", "endless", "nothing"] {
            let read = it.store.get(key);
            let seen = it.store.get_with(key, |seen| {
                let at = seen.at.unwrap_or_else(|| it.time.now());
                Some((seen.entry.value, seen.freshness, seen.stale_for, at))
            });
            let given = read.map(|hit| (hit.entry.value, hit.freshness, hit.stale_for, hit.at));
            assert_eq!(seen, given, "{key}");
            assert_eq!(it.store.get_with(key, |_| None::<()>), None, "{key}");
        }
        it.time.advance(seconds(10));
    }
}

pub fn the_life_of_the_newest_commit_counts<S: Tested>(it: &StoreSubject<S>) {
    it.put_entry("longer", it.entry_for(1, seconds(1), seconds(2)));
    it.put("longer", 2);
    it.put("shorter", 1);
    it.put_entry("shorter", it.entry_for(2, seconds(1), seconds(2)));
    it.time.advance(seconds(2));
    assert_eq!(it.value("longer"), Some(2));
    assert!(it.store.get("shorter").is_none());
}

pub fn an_entry_past_its_life_is_rejected<S: Tested>(it: &StoreSubject<S>) {
    let entry = it.entry_for(1, seconds(1), seconds(2));
    it.time.advance(seconds(2));
    let fence = it.begin("k");
    assert_eq!(it.store.commit(fence, "k".to_owned(), entry), Commit::Rejected);
    assert!(it.store.get("k").is_none());
}

pub fn a_rejected_commit_removes_the_old_value<S: Tested>(it: &StoreSubject<S>) {
    let dead = it.entry_for(2, seconds(1), seconds(2));
    it.put("k", 1);
    it.put("other", 1);
    it.time.advance(seconds(2));
    let fence = it.begin("k");
    assert_eq!(it.store.commit(fence, "k".to_owned(), dead), Commit::Rejected);
    assert!(it.store.get("k").is_none());
    assert_eq!(it.value("other"), Some(1));
}

pub fn void_all_keeps_what_is_held<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    it.put("l", 2);
    it.store.void_all();
    assert_eq!((it.value("k"), it.value("l")), (Some(1), Some(2)));
    assert_eq!(it.freshness("k"), Some(Freshness::Fresh));
}

pub fn clear_drops_everything<S: Tested>(it: &StoreSubject<S>) {
    let keys: Vec<String> = (0..100).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        it.put(key, 1);
    }
    it.store.clear();
    assert!(keys.iter().all(|key| it.store.get(key).is_none()));
    let stats = it.store.stats();
    assert_eq!((stats.entries, stats.weight), (0, 0));
}

pub fn invalidate_if_drops_what_is_meant_and_nothing_else<S: Tested>(it: &StoreSubject<S>) {
    let keys: Vec<String> = (0..100).map(|n| format!("key:{n}")).collect();
    for (key, value) in keys.iter().zip(0..) {
        it.put(key, value);
    }
    it.invalidate_if(|key| key.ends_with('7'));
    for (key, value) in keys.iter().zip(0..) {
        assert_eq!(it.value(key), (value % 10 != 7).then_some(value), "{key}");
    }
    assert_eq!(it.store.stats().entries, 90);
    it.invalidate_if(|_| true);
    assert_eq!(it.store.stats().entries, 0);
    it.put("key:7", 7);
    assert_eq!(it.value("key:7"), Some(7), "what comes later is kept");
}

pub fn invalidate_if_tells_of_entries_and_not_of_those_past_their_life<S: Tested>(it: &StoreSubject<S>) {
    it.put_entry("short", it.entry_for(1, seconds(1), seconds(2)));
    it.put_entry("stale", it.entry_for(2, seconds(1), seconds(30)));
    it.put("fresh", 3);
    it.time.advance(seconds(2));
    let (mut seen, mut next) = (Vec::new(), Some(StoreCursor::START));
    while let Some(from) = next {
        next = it.store.invalidate_if(from, |key, entry| {
            seen.push((key.clone(), entry.value));
            entry.value == Some(2)
        });
    }
    seen.sort_unstable();
    assert_eq!(seen, [("fresh".to_owned(), Some(3)), ("stale".to_owned(), Some(2))]);
    assert_eq!((it.value("stale"), it.value("fresh")), (None, Some(3)));
}

/// Whose load began before the walk did.
pub fn an_entry_that_comes_during_a_walk_from_before_it_is_refused_or_dropped<S: Tested>(
    it: &StoreSubject<S>,
) {
    let keys: Vec<String> = (0..50).map(|n| format!("key:{n}")).collect();
    for round in 0..4 {
        let fences: Vec<_> = keys.iter().map(|key| it.begin(key)).collect();
        keys.iter().take(25).for_each(|key| it.put(key, 1));
        let mut fences = keys.iter().zip(fences).skip(round * 10);
        let mut next = Some(StoreCursor::START);
        while let Some(from) = next {
            next = it.store.invalidate_if(from, |_, _| true);
            if let Some((key, fence)) = fences.next() {
                it.commit(fence, key, 2);
            }
        }
        for (key, fence) in fences {
            it.commit(fence, key, 3);
        }
        let held: Vec<&String> = keys.iter().filter(|key| it.value(key).is_some()).collect();
        assert!(held.is_empty(), "round {round}: {held:?}");
    }
}

pub fn a_written_commit_is_found<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    let fence = it.begin("k");
    assert_eq!(it.commit_write(fence, "k", 2), Commit::Stored);
    assert_eq!((it.value("k"), it.freshness("k")), (Some(2), Some(Freshness::Fresh)));
    let fence = it.begin("k");
    assert_eq!(it.commit(fence, "k", 3), Commit::Stored, "a fence begun afterwards");
}

pub fn a_written_commit_revokes_every_other_fence_of_the_key<S: Tested>(it: &StoreSubject<S>) {
    let (reader, writer, other_writer) = (it.begin("k"), it.begin("k"), it.begin("k"));
    assert_eq!(it.commit_write(writer, "k", 1), Commit::Stored);
    assert_eq!(it.commit(reader, "k", 2), Commit::Revoked);
    assert_eq!(it.commit_write(other_writer, "k", 3), Commit::Revoked);
    assert_eq!(it.value("k"), Some(1));
}

pub fn a_written_commit_after_an_invalidation_is_refused<S: Tested>(it: &StoreSubject<S>) {
    it.put("k", 1);
    let writer = it.begin("k");
    it.store.invalidate("k");
    assert_eq!(it.commit_write(writer, "k", 2), Commit::Revoked);
    assert!(it.store.get("k").is_none());
}

pub fn a_refused_written_commit_revokes_nothing_else<S: Tested>(it: &StoreSubject<S>) {
    let writer = it.begin("k");
    it.store.invalidate("k");
    let reader = it.begin("k");
    assert_eq!(it.commit_write(writer, "k", 1), Commit::Revoked);
    assert_eq!(it.commit(reader, "k", 2), Commit::Stored);
}

pub fn a_rejected_written_commit_removes_the_old_value<S: Tested>(it: &StoreSubject<S>) {
    let dead = it.entry_for(2, seconds(1), seconds(2));
    it.put("k", 1);
    it.time.advance(seconds(2));
    let writer = it.begin("k");
    assert_eq!(it.store.commit_write(writer, "k".to_owned(), dead), Commit::Rejected);
    assert!(it.store.get("k").is_none());
}

/// Else an older load fills the gap that the newer value has left.
pub fn a_rejected_written_commit_revokes_every_other_fence_of_the_key<S: Tested>(it: &StoreSubject<S>) {
    let dead = it.entry_for(1, seconds(1), seconds(2));
    it.time.advance(seconds(2));
    let (reader, writer, other_writer) = (it.begin("k"), it.begin("k"), it.begin("k"));
    assert_eq!(it.store.commit_write(writer, "k".to_owned(), dead), Commit::Rejected);
    assert_eq!(it.commit(reader, "k", 2), Commit::Revoked);
    assert_eq!(it.commit_write(other_writer, "k", 3), Commit::Revoked);
    assert!(it.store.get("k").is_none());
}

pub fn stats_count_the_entries_and_their_weight<S: Tested>(it: &StoreSubject<S>) {
    for n in 0..10 {
        it.put(&format!("key:{n}"), n);
    }
    let full = it.store.stats();
    assert_eq!((full.entries, full.evicted), (10, 0));
    assert!(0 < full.weight && full.weight <= full.capacity, "{full:?}");
    it.store.invalidate("key:3");
    let less = it.store.stats();
    assert_eq!(less.entries, 9);
    assert!(less.weight < full.weight, "{less:?} after {full:?}");
}

pub fn stats_count_refused_commits<S: Tested>(it: &StoreSubject<S>) {
    assert_eq!(it.store.stats().revoked, 0);
    let (first, second) = (it.begin("k"), it.begin("k"));
    it.store.invalidate("k");
    it.commit(first, "k", 1);
    it.commit_write(second, "k", 1);
    it.put("k", 1);
    assert_eq!(it.store.stats().revoked, 2);
}

/// One thread loads and commits, another changes the source and invalidates, as fast as they can.
pub fn no_commit_begun_before_an_invalidation_is_seen_after_it<S: Tested>(it: &StoreSubject<S>) {
    const ROUNDS: u64 = 3000;
    let source = AtomicU64::new(0);
    thread::scope(|scope| {
        // The loading thread ends also when the assertion fails; else the scope would wait for ever.
        let _over = AtLast(|| source.store(ROUNDS, Ordering::SeqCst));
        scope.spawn(|| {
            while source.load(Ordering::SeqCst) < ROUNDS {
                let fence = it.begin("k");
                it.commit(fence, "k", source.load(Ordering::SeqCst));
            }
        });
        for version in 1..=ROUNDS {
            source.store(version, Ordering::SeqCst);
            it.store.invalidate("k");
            let seen = it.value("k");
            assert!(seen.is_none_or(|seen| seen == version), "{seen:?} after {version}");
        }
    });
}

/// Does it when dropped.
struct AtLast<F: Fn()>(F);

impl<F: Fn()> Drop for AtLast<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
