//! What the policy keeps, hit by hit, on workloads that are the same in every run.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::sync::Barrier;
use std::thread;

use cachalot_memory_backend::Memory;

const CAPACITY: u64 = 1_100;

const SEED: u64 = 7;

/// Hits in one shard, and in as many as a memory of that size has.
const EXPECTED: [(&str, usize, usize); 8] = [
    ("zipf 0.7", 5894, 5904),
    ("zipf 0.9", 10_626, 10_648),
    ("zipf 1.1", 15_164, 15_142),
    ("scans amid zipf", 8537, 8547),
    ("loop", 7516, 7135),
    ("shift", 13_564, 13_549),
    ("pairs", 5825, 5819),
    ("pairs, loop, pairs", 3667, 3663),
];

#[test]
fn the_policy_has_the_hits_it_always_had() {
    let workloads = workloads();
    let measured = |at: usize| {
        let (name, keys) = &workloads[at];
        (*name, hits(&memory(Some(1)), keys), hits(&memory(None), keys))
    };
    let measured: [_; 8] = std::array::from_fn(measured);
    // With the processor's AES the same seed hashes otherwise.
    if cfg!(any(target_feature = "aes", not(target_pointer_width = "64"))) {
        for ((name, one, more), (_, one_now, more_now)) in EXPECTED.into_iter().zip(measured) {
            assert!(one.abs_diff(one_now) < READS / 50, "{name}: {one_now} against {one}");
            assert!(more.abs_diff(more_now) < READS / 50, "{name}: {more_now} against {more}");
        }
    } else {
        assert_eq!(measured, EXPECTED);
    }
}

/// Zipf alone: there the order of reads, which threads disturb, says nothing. In rounds, so that nobody whom the
/// system puts to sleep is left behind by thousands of reads: that would tell of the machine.
#[test]
fn four_threads_have_the_hits_of_one_within_a_point() {
    let keys = zipf(20_000, 0.9, 2);
    let (alone, together, round) = (hits(&memory(None), &keys), memory(None), Barrier::new(4));
    let work = |thread: usize| {
        let mut hits = 0;
        for keys in keys.chunks(64) {
            round.wait();
            let own = keys.iter().skip(thread).step_by(4);
            hits += own.filter(|&&key| read_or_insert(&together, key)).count();
        }
        hits
    };
    let work = &work;
    let crowd: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(crowd.abs_diff(alone) < READS / 100, "{crowd} against {alone}");
}

#[test]
fn the_same_seed_keeps_the_same_entries() {
    let keys = zipf(20_000, 0.7, 1);
    let held = |seed| {
        let memory = Memory::entries(CAPACITY).hash_seed(seed).build().unwrap();
        let hits = hits(&memory, &keys);
        (hits, (0..20_000).filter(|key| memory.contains(key)).collect::<Vec<u64>>())
    };
    assert!(held(1) == held(1));
    assert!(held(1) != held(2));
}

fn memory(shards: Option<usize>) -> Memory<u64, ()> {
    let builder = Memory::entries(CAPACITY).hash_seed(SEED);
    shards.into_iter().fold(builder, |builder, shards| builder.shards(shards)).build().unwrap()
}

fn read_or_insert(memory: &Memory<u64, ()>, key: u64) -> bool {
    let held = memory.get(&key).is_some();
    if !held {
        memory.insert(key, ());
    }
    held
}

fn hits(memory: &Memory<u64, ()>, keys: &[u64]) -> usize {
    keys.iter().filter(|&&key| read_or_insert(memory, key)).count()
}

/// Reads of each workload.
const READS: usize = 20_000;

fn workloads() -> [(&'static str, Vec<u64>); 8] {
    let looped = |length: u64, reads: usize| (0..reads as u64).map(move |at| at % length);
    let popular = zipf(5_000, 0.9, 4);
    let scans = (0..).zip(&popular).map(|(at, key)| if at % 1_500 < 1_000 { *key } else { 1_000_000 + at });
    let shift = (0..).zip(zipf(5_000, 1.0, 5)).map(|(at, key)| at / 4_000 * 1_000 + key);
    let third = READS / 3;
    let around =
        pairs(1_000_000, third).into_iter().chain(looped(2_000, third)).chain(pairs(2_000_000, third));
    [
        ("zipf 0.7", zipf(20_000, 0.7, 1)),
        ("zipf 0.9", zipf(20_000, 0.9, 2)),
        ("zipf 1.1", zipf(20_000, 1.1, 3)),
        ("scans amid zipf", scans.collect()),
        ("loop", looped(2_000, READS).collect()),
        ("shift", shift.collect()),
        ("pairs", pairs(0, READS)),
        ("pairs, loop, pairs", around.collect()),
    ]
}

/// Ranks from 0, the n-th of them as likely as 1 / (n + 1)^exponent.
fn zipf(ranks: usize, exponent: f64, seed: u64) -> Vec<u64> {
    let mut sum = 0.0;
    let weights = (1..=ranks).map(|rank| (rank as f64).powf(-exponent));
    let cumulated: Vec<f64> = weights
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    let draw = |at| {
        let uniform = (mix(seed << 32 | at) >> 11) as f64 / (1u64 << 53) as f64;
        cumulated.partition_point(|&end| end <= uniform * sum) as u64
    };
    (0..READS as u64).map(draw).collect()
}

/// Of each two keys one is read again, after 100 to 400 other reads, and then never more.
fn pairs(first: u64, reads: usize) -> Vec<u64> {
    let mut keys = vec![None; reads + 500];
    let mut next = first;
    for at in 0..reads {
        if keys[at].is_some() {
            continue;
        }
        keys[at] = Some(next);
        if next.is_multiple_of(2) {
            let again = at + 100 + (mix(next) % 300) as usize;
            let free = keys[again..].iter().position(Option::is_none);
            if let Some(free) = free {
                keys[again + free] = Some(next);
            }
        }
        next += 1;
    }
    keys.into_iter().take(reads).flatten().collect()
}

/// splitmix64.
fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
