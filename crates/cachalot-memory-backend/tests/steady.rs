//! A memory that is full takes no more from the system, however many keys pass through it.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use allocation_counter::measure;
use cachalot_core::ManualClock;
use cachalot_memory_backend::Memory;

/// Ten millions where the compiler does its best: `cargo test --release`.
const PASSING: u64 = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };

const CAPACITY: u64 = 10_000;

/// Passes so many keys through; the first half fills all that is to be filled, as ends come and go.
fn pass(keys: u64, insert: impl Fn(u64)) {
    (0..keys / 2).for_each(&insert);
    let taken = measure(|| (keys / 2..keys).for_each(&insert));
    // What is held is of different sizes at different times, here up to a few kilobytes.
    assert!(taken.bytes_current <= 64 << 10, "{} bytes more than before", taken.bytes_current);
    assert!(taken.bytes_max <= 256 << 10, "at times {} bytes more than before", taken.bytes_max);
}

#[test]
fn millions_of_keys_pass_through_steady_memory() {
    let memory: Memory<u64, Box<u64>> = Memory::entries(CAPACITY).build().unwrap();
    pass(PASSING, |key| assert!(memory.insert(key, Box::new(key))));
    assert_eq!(memory.len() as u64, CAPACITY);
    assert_eq!(memory.stats().inserts, PASSING);
}

#[test]
fn millions_of_weighed_keys_with_all_kinds_of_ends_pass_through_steady_memory() {
    let clock = ManualClock::new();
    let memory: Memory<String, u64> = Memory::weight_limit(CAPACITY * 5)
        .weigher(|_, value| value % 8 + 1)
        .clock(clock.clock())
        .build()
        .unwrap();
    pass(PASSING / 4, |key| {
        let (now, ttl) = (clock.now(), Duration::from_millis(key % 1000 + 1));
        // Some ends are too far away for the codes in the slot, some have two parts.
        let (soft, hard) = match key % 4 {
            0 => (now + ttl, now + ttl),
            1 => (now + ttl, now + 3 * ttl),
            2 => (now + ttl * 10_000_000, now + ttl * 20_000_000),
            _ => (cachalot_core::Timestamp::NEVER, cachalot_core::Timestamp::NEVER),
        };
        assert!(memory.insert_until(key.to_string(), key, soft, hard));
        if key % 20 == 0 {
            clock.advance(Duration::from_millis(1));
        }
    });
    assert!(memory.weight() <= memory.capacity());
}
