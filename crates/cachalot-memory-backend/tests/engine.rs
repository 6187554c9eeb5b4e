//! What `Memory` promises, sentence by sentence.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachalot_core::{Clock, Commit, ErrorKind, Freshness, ManualClock, Timestamp};
use cachalot_memory_backend::{Memory, MemoryBuilder};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn entries(limit: u64) -> Memory<u64, u64> {
    Memory::entries(limit).build().unwrap()
}

fn timed(limit: u64) -> (Memory<u64, u64>, ManualClock) {
    let clock = ManualClock::new();
    (Memory::entries(limit).clock(clock.clock()).build().unwrap(), clock)
}

/// Entries weigh their values.
fn weighed(limit: u64) -> Memory<u64, u64> {
    Memory::weight_limit(limit).weigher(|_, weight| *weight).build().unwrap()
}

#[test]
fn look_ups_take_a_borrowed_form_of_the_key() {
    let memory: Memory<String, u64> = Memory::entries(10).build().unwrap();
    memory.insert("a".to_owned(), 1);
    assert_eq!(memory.get("a"), Some(1));
    assert_eq!(memory.get_with("a", |value| value + 1), Some(2));
    assert!(memory.contains("a"));
    assert_eq!(memory.remove("a"), Some(1));
    assert_eq!(memory.get("a"), None);
}

#[test]
fn an_insert_replaces() {
    let memory = entries(10);
    assert!(memory.insert(1, 10));
    assert!(memory.insert(1, 11));
    assert_eq!(memory.get(&1), Some(11));
    assert_eq!((memory.len(), memory.weight()), (1, 1));
}

#[test]
fn keys_of_one_hash_never_meet() {
    #[derive(PartialEq, Eq)]
    struct Colliding(u64);
    impl Hash for Colliding {
        fn hash<H: Hasher>(&self, state: &mut H) {
            state.write_u8(0);
        }
    }
    let memory: Memory<Colliding, u64> = Memory::entries(50).build().unwrap();
    for key in 0..100 {
        assert!(memory.insert(Colliding(key), key));
        assert_eq!(memory.get(&Colliding(key + 1)), None);
    }
    assert_eq!(memory.len(), 50);
    assert!((0..100).all(|key| memory.get(&Colliding(key)).is_none_or(|value| value == key)));
    assert_eq!(memory.remove(&Colliding(99)), Some(99));
    assert_eq!(memory.len(), 49);
}

#[test]
fn any_capacity_will_do_in_any_number_of_shards() {
    for shards in [1, 2, 64] {
        let memory: Memory<u64, u64> = Memory::entries(u64::MAX).shards(shards).build().unwrap();
        (0..1000).for_each(|key| assert!(memory.insert(key, key)));
        assert_eq!(memory.len(), 1000);
    }
}

#[test]
fn a_value_may_be_large() {
    let memory: Memory<u64, [u8; 50_000]> = Memory::entries(50).build().unwrap();
    for key in 0..60 {
        assert!(memory.insert(key, [key as u8; 50_000]));
    }
    assert_eq!(memory.get_with(&59, |value| value[7]), Some(59));
}

#[test]
fn nothing_is_evicted_before_the_capacity_is_used() {
    for limit in [1, 2, 3, 10, 100, 5000] {
        let memory: Memory<u64, u64> = Memory::entries(limit).shards(64).build().unwrap();
        (0..limit).for_each(|key| assert!(memory.insert(key, key)));
        assert_eq!(memory.len() as u64, limit);
        assert_eq!(memory.stats().evicted, 0, "limit {limit}");
    }
}

#[test]
fn a_capacity_of_one_holds_the_newest() {
    for shards in [1, 64] {
        let memory: Memory<u64, u64> = Memory::entries(1).shards(shards).build().unwrap();
        for key in 0..100 {
            assert!(memory.insert(key, key));
            assert_eq!(memory.get(&key), Some(key));
            assert_eq!(memory.len(), 1);
        }
    }
}

#[test]
fn the_bound_is_on_the_sum_of_weights() {
    let memory = weighed(100);
    for key in 0..1000 {
        assert!(memory.insert(key, key % 40 + 1));
        assert!(memory.weight() <= 100);
        assert_eq!(memory.stats().weight, memory.weight());
    }
    assert!(memory.weight() > 60, "room is used: {}", memory.weight());
}

#[test]
fn an_entry_as_heavy_as_the_capacity_replaces_all_others() {
    let memory = weighed(100);
    (0..10).for_each(|key| assert!(memory.insert(key, 10)));
    assert!(memory.insert(99, 100));
    assert_eq!((memory.len(), memory.weight()), (1, 100));
}

#[test]
fn an_entry_that_grows_makes_room_at_the_cost_of_others() {
    for shards in [1, 16] {
        let memory: Memory<u64, u64> =
            Memory::weight_limit(100).weigher(|_, weight| *weight).shards(shards).build().unwrap();
        (0..10).for_each(|key| assert!(memory.insert(key, 10)));
        for weight in [11, 60, 100] {
            assert!(memory.insert(3, weight));
            assert_eq!(memory.get(&3), Some(weight));
            assert!(memory.weight() <= 100);
        }
        assert_eq!((memory.len(), memory.stats().evicted), (1, 9));
    }
}

#[test]
fn a_rejected_update_removes_the_old_value() {
    let memory = weighed(100);
    memory.insert(1, 50);
    for heavy in [101, u64::MAX] {
        memory.insert(1, 50);
        assert!(!memory.insert(1, heavy));
        assert_eq!(memory.get(&1), None);
        assert_eq!(memory.weight(), 0);
    }
    assert_eq!(memory.stats().rejected, 2);
}

#[test]
fn the_largest_capacity_and_weights_do_not_overflow() {
    let memory = weighed(u64::MAX);
    assert!(memory.insert(1, u64::MAX - 1));
    assert!(memory.insert(2, 1));
    assert!(memory.insert(3, u64::MAX));
    assert_eq!((memory.len(), memory.weight()), (1, u64::MAX));
}

#[test]
fn an_entry_of_no_weight_counts_one() {
    let memory = weighed(10);
    (0..100).for_each(|key| assert!(memory.insert(key, 0)));
    assert_eq!((memory.len(), memory.weight()), (10, 10));
}

#[test]
fn a_weigher_that_changes_its_mind_does_not_upset_the_sum() {
    let calls = AtomicUsize::new(0);
    let memory: Memory<u64, u64> = Memory::weight_limit(50)
        .weigher(move |_, _| calls.fetch_add(7, Ordering::Relaxed) as u64 % 13)
        .build()
        .unwrap();
    for key in 0..500 {
        memory.insert(key % 20, key);
        assert!(memory.weight() <= 50);
    }
    (0..20).for_each(|key| {
        memory.remove(&key);
    });
    assert_eq!((memory.len(), memory.weight()), (0, 0));
}

#[test]
fn by_default_the_size_of_key_value_and_slot_is_counted() {
    let small: Memory<u64, u64> = Memory::weight_limit(1 << 20).build().unwrap();
    let large: Memory<u64, [u8; 1000]> = Memory::weight_limit(1 << 20).build().unwrap();
    small.insert(1, 1);
    large.insert(1, [0; 1000]);
    assert_eq!(large.weight() - small.weight(), 992);
    assert!(small.weight() >= 16);
}

#[test]
fn skewed_shards_use_the_whole_capacity() {
    // All inserts go to one shard of many, then to another one.
    let memory: Memory<u64, u64> = Memory::entries(160).shards(16).build().unwrap();
    let shard = |key: &u64| memory.begin(key).slot() / 4096;
    let keys_of = |home| (0..).filter(move |key| shard(key) == home).take(500);
    for key in keys_of(0) {
        assert!(memory.insert(key, 0));
    }
    assert_eq!(memory.len(), 160);
    for key in keys_of(1) {
        assert!(memory.insert(key, 1));
    }
    assert_eq!(memory.len(), 160);
    let latecomers = keys_of(1).filter(|key| memory.contains(key)).count();
    assert!(latecomers >= 10, "{latecomers} are less than a shard's part");
}

#[test]
fn an_expired_entry_is_never_served() {
    let (memory, clock) = timed(10);
    memory.insert_with_ttl(1, 1, SECOND);
    clock.advance(SECOND - MS);
    assert_eq!(memory.get(&1), Some(1));
    clock.advance(MS);
    assert_eq!(memory.get(&1), None);
    assert!(memory.find(&1).is_none());
    assert_eq!(memory.remove(&1), None);
    assert!(!memory.expire(&1, SECOND));
}

#[test]
fn expired_entries_leave_memory_without_being_asked_for() {
    let (memory, clock) = timed(10_000);
    (0..5000).for_each(|key| assert!(memory.insert_with_ttl(key, key, SECOND)));
    clock.advance(SECOND);
    (10_000..12_500).for_each(|key| assert!(memory.insert(key, key)));
    assert_eq!((memory.len(), memory.weight()), (2500, 2500));
    assert_eq!(memory.stats().expired, 5000);
}

#[test]
fn writes_of_one_key_collect_the_expired_of_all_shards() {
    let clock = ManualClock::new();
    let memory: Memory<u64, u64> = Memory::entries(10_000).shards(16).clock(clock.clock()).build().unwrap();
    (0..5000).for_each(|key| assert!(memory.insert_with_ttl(key, key, SECOND)));
    clock.advance(SECOND);
    (0..2500).for_each(|value| assert!(memory.insert(77_777, value)));
    assert_eq!((memory.len(), memory.weight()), (1, 1));
}

#[test]
fn a_ttl_below_a_millisecond_is_not_held_and_removes_the_old_value() {
    let (memory, _clock) = timed(10);
    for ttl in [Duration::ZERO, Duration::from_nanos(1)] {
        memory.insert(1, 1);
        assert!(!memory.insert_with_ttl(1, 2, ttl));
        assert_eq!((memory.get(&1), memory.len()), (None, 0));
    }
    assert!(memory.insert_with_ttl(1, 1, MS));
}

#[test]
fn the_longest_ttl_never_ends() {
    let (memory, clock) = timed(10);
    assert!(memory.insert_with_ttl(1, 1, Duration::MAX));
    assert!(memory.insert_with_ttl(2, 2, Duration::from_secs(25 * 24 * 3600)));
    clock.advance(Duration::from_secs(24 * 24 * 3600));
    assert_eq!((memory.get(&1), memory.get(&2)), (Some(1), Some(2)));
    clock.advance(Duration::MAX);
    assert_eq!((memory.get(&1), memory.get(&2)), (Some(1), None));
}

#[test]
fn a_stale_value_is_found_but_not_got() {
    let (memory, clock) = timed(10);
    let now = clock.now();
    memory.insert_until(1, 1, now + SECOND, now + 10 * SECOND);
    assert_eq!(memory.find(&1).unwrap().freshness, Freshness::Fresh);
    clock.advance(3 * SECOND);
    let found = memory.find(&1).unwrap();
    assert_eq!((found.freshness, found.stale_for), (Freshness::Stale, 2 * SECOND));
    assert_eq!(memory.get(&1), None);
    assert_eq!(memory.remove(&1), Some(1));
}

/// After many reads its set is read without a lock, and knows the first of the ends only.
#[test]
fn what_is_read_often_is_judged_by_its_own_times() {
    let (memory, clock) = timed(10);
    let now = clock.now();
    memory.insert_until(1, 1, now + SECOND, now + 10 * SECOND);
    memory.insert_until(2, 2, now + 5 * SECOND, now + 5 * SECOND);
    memory.insert(3, 3);
    let read_often = || {
        let read = |key| memory.find(&key).map(|found| (found.value, found.freshness, found.stale_for));
        let reads = [read(1), read(2), read(3)];
        (0..20_000).for_each(|_| assert_eq!([read(1), read(2), read(3)], reads));
        reads
    };
    let fresh = |value| Some((value, Freshness::Fresh, Duration::ZERO));
    assert_eq!(read_often(), [fresh(1), fresh(2), fresh(3)]);
    clock.advance(2 * SECOND);
    assert_eq!(read_often(), [Some((1, Freshness::Stale, SECOND)), fresh(2), fresh(3)]);
    assert_eq!(memory.get(&1), None);
    assert!(memory.expire(&1, 60 * SECOND));
    assert_eq!(memory.find(&1).unwrap().freshness, Freshness::Invalidated);
    clock.advance(3 * SECOND);
    assert_eq!(read_often(), [Some((1, Freshness::Invalidated, 4 * SECOND)), None, fresh(3)]);
    clock.advance(5 * SECOND);
    assert_eq!(read_often(), [None, None, fresh(3)]);
    assert_eq!(memory.len(), 1, "who finds an entry past its end takes it out");
}

#[test]
fn an_expire_keeps_the_value_for_so_long_as_invalidated() {
    let (memory, clock) = timed(10);
    memory.insert(1, 1);
    assert!(memory.expire(&1, 2 * SECOND));
    assert_eq!(memory.get(&1), None);
    clock.advance(SECOND);
    let found = memory.find(&1).unwrap();
    assert_eq!((found.freshness, found.stale_for), (Freshness::Invalidated, SECOND));
    assert!(memory.expire(&1, 10 * SECOND), "a second one does not prolong");
    clock.advance(SECOND);
    assert!(memory.find(&1).is_none());
    assert!(!memory.expire(&1, SECOND));
}

#[test]
fn an_expire_that_keeps_for_no_time_removes() {
    let (memory, _clock) = timed(10);
    memory.insert(1, 1);
    assert!(memory.expire(&1, Duration::ZERO));
    assert_eq!(memory.len(), 0);
}

#[test]
fn every_invalidation_revokes_a_fence_also_of_an_absent_key() {
    type Deed = fn(&Memory<u64, u64>);
    let deeds: [(&str, Deed); 7] = [
        ("insert", |memory| assert!(memory.insert(1, 9))),
        ("heavy insert", |memory| assert!(!memory.insert(1, 1000))),
        ("remove", |memory| {
            memory.remove(&1);
        }),
        ("expire", |memory| {
            memory.expire(&1, SECOND);
        }),
        ("void", |memory| memory.void(&1)),
        ("void_all", |memory| memory.void_all()),
        ("clear", |memory| memory.clear()),
    ];
    for (name, deed) in deeds {
        for held in [false, true] {
            let memory = weighed(100);
            if held {
                memory.insert(1, 8);
            }
            let fence = memory.begin(&1);
            deed(&memory);
            let before = memory.get(&1);
            assert_eq!(memory.commit(fence, 1, 7, None), Commit::Revoked, "{name}");
            assert_eq!(memory.get(&1), before, "{name}");
            assert_eq!(memory.stats().revoked, 1);
            let fence = memory.begin(&1);
            assert_eq!(memory.commit(fence, 1, 7, None), Commit::Stored, "{name}");
        }
    }
}

#[test]
fn neither_reads_nor_evictions_nor_commits_revoke() {
    let memory = entries(1);
    let (first, second) = (memory.begin(&1), memory.begin(&1));
    memory.get(&1);
    assert_eq!(memory.commit(first, 1, 7, None), Commit::Stored);
    let other = (2..).find(|key| memory.begin(key).slot() != second.slot()).unwrap();
    memory.insert(other, 9);
    assert_eq!(memory.get(&1), None);
    assert_eq!(memory.commit(second, 1, 7, None), Commit::Stored);
}

#[test]
fn a_fence_fits_no_key_of_another_slot() {
    let memory = entries(10);
    let fence = memory.begin(&1);
    let other = (2..).find(|key| memory.begin(key).slot() != fence.slot()).unwrap();
    assert_eq!(memory.commit(fence, other, 7, None), Commit::Revoked);
}

#[test]
fn a_commit_past_its_life_removes_the_old_value() {
    let (memory, clock) = timed(10);
    memory.insert(1, 1);
    let (fence, now) = (memory.begin(&1), clock.now());
    assert_eq!(memory.commit(fence, 1, 2, Some((now, now))), Commit::Rejected);
    assert_eq!(memory.get(&1), None);
}

#[test]
fn clear_drops_everything() {
    let memory = entries(1000);
    (0..1000).for_each(|key| assert!(memory.insert(key, key)));
    memory.clear();
    assert_eq!((memory.len(), memory.weight()), (0, 0));
    assert!(memory.is_empty());
    (0..2000).for_each(|key| assert!(memory.insert(key, key)));
    assert_eq!(memory.len(), 1000);
}

#[test]
fn each_value_is_dropped_once() {
    let alive = Arc::new(());
    let memory: Memory<u64, Arc<()>> = Memory::entries(50).build().unwrap();
    for key in 0..1000u64 {
        memory.insert(key % 70, alive.clone());
        memory.remove(&(key / 2 % 70));
    }
    assert_eq!(Arc::strong_count(&alive), memory.len() + 1);
    memory.clear();
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_drop_may_use_the_memory() {
    struct Nosy(std::sync::Weak<Memory<u64, Nosy>>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            if let Some(memory) = self.0.upgrade() {
                memory.contains(&0);
                memory.remove(&1);
            }
        }
    }
    let memory = Arc::new(Memory::entries(4).shards(1).build().unwrap());
    for key in 0..100 {
        memory.insert(key % 9, Nosy(Arc::downgrade(&memory)));
    }
    memory.clear();
    assert_eq!(memory.len(), 0);
}

#[test]
fn statistics_count_what_happened() {
    let (memory, clock) = timed(2);
    memory.insert(1, 1);
    memory.insert_with_ttl(2, 2, SECOND);
    memory.get(&1);
    memory.get(&9);
    clock.advance(SECOND);
    memory.get(&2);
    (3..6).for_each(|key| assert!(memory.insert(key, key)));
    let stats = memory.stats();
    assert_eq!((stats.hits, stats.misses), (1, 2));
    assert_eq!((stats.inserts, stats.expired, stats.evicted), (5, 1, 2));
    assert_eq!((stats.entries, stats.weight, stats.capacity), (2, 2, 2));
}

#[test]
fn contradictory_configurations_are_refused() {
    let build = |builder: MemoryBuilder<u64, u64>| builder.build().map(|_| ()).unwrap_err().kind();
    assert_eq!(build(Memory::entries(0)), ErrorKind::Config);
    assert_eq!(build(Memory::weight_limit(0)), ErrorKind::Config);
    assert_eq!(build(Memory::entries(9).shards(0)), ErrorKind::Config);
    assert_eq!(build(Memory::entries(9).shards(usize::MAX)), ErrorKind::Config);
}

#[test]
fn the_system_clock_will_do() {
    let memory: Memory<u64, u64> = Memory::entries(10).clock(Clock::system()).build().unwrap();
    memory.insert_with_ttl(1, 1, Duration::from_secs(3600));
    assert_eq!(memory.get(&1), Some(1));
    assert!(memory.find(&1).unwrap().at > Timestamp::from_millis(0));
}

#[test]
fn a_memory_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Memory<String, std::sync::Mutex<u8>>>();
    shared::<MemoryBuilder<String, u8>>();
}

/// As a clock that counts from its start: sets that had times early have another base than later ones.
#[test]
fn growth_changes_no_expiry() {
    let day = 24 * 3600 * SECOND;
    // Keys are spread by chance.
    for _ in 0..20 {
        let clock = ManualClock::new();
        let memory: Memory<u64, u64> = Memory::entries(1000).shards(1).clock(clock.clock()).build().unwrap();
        (0..100).for_each(|key| assert!(memory.insert_with_ttl(key, key, 40 * day)));
        clock.advance(26 * day);
        memory.insert_with_ttl(1000, 0, day);
        (2000..2300).for_each(|key| assert!(memory.insert(key, 0)));
        assert!((0..100).all(|key| memory.contains(&key)), "too early");
        clock.advance(14 * day);
        assert!(!(0..100).any(|key| memory.contains(&key)), "too late");
    }
}

/// Its `Drop` reads from the memory.
struct Reads(Arc<Memory<u64, u64>>);

impl Drop for Reads {
    fn drop(&mut self) {
        self.0.contains(&2);
    }
}

#[test]
fn a_closure_that_was_not_called_is_dropped_without_a_lock() {
    let (memory, clock) = timed(10);
    memory.insert_with_ttl(1, 1, MS);
    clock.advance(MS);
    let (memory, (done, wait)) = (Arc::new(memory), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let reads = Reads(memory.clone());
        done.send(memory.get_with(&1, move |_| drop(reads)))
    });
    assert_eq!(wait.recv_timeout(10 * SECOND), Ok(None), "it waits for itself");
}
