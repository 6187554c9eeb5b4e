//! What a memory says it takes, against an allocator that counts.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use allocation_counter::measure;
use cachalot_core::{Clock, ManualClock};
use cachalot_memory_backend::{Memory, MemoryBuilder};

/// The counter counts what is allocated while it measures and still there at the end, on this thread.
fn assert_footprint(builder: MemoryBuilder<u64, [u64; 3]>, fill: impl FnOnce(&Memory<u64, [u64; 3]>)) {
    let mut kept = None;
    let allocated = measure(|| {
        let memory = builder.build().unwrap();
        fill(&memory);
        kept = black_box(Some(memory));
    });
    let (says, allocated) = (kept.unwrap().footprint() as f64, allocated.bytes_current as f64);
    assert!((says / allocated - 1.0).abs() < 0.02, "it says {says}, {allocated} were allocated");
}

fn clock() -> Clock {
    // Made outside, where it is not counted.
    ManualClock::new().clock()
}

#[test]
fn the_footprint_is_what_was_allocated() {
    assert_footprint(Memory::entries(100_000).clock(clock()), |_| ());
    assert_footprint(Memory::entries(100_000).clock(clock()), |memory| {
        (0..1000).for_each(|key| assert!(memory.insert(key, [key; 3])));
    });
    assert_footprint(Memory::entries(20_000).clock(clock()), |memory| {
        // Far more than fit, so that evicted keys are remembered and the traffic is watched.
        (0..60_000).for_each(|key| assert!(memory.insert(key, [key; 3])));
    });
}

#[test]
fn weights_times_and_the_curve_are_counted_too() {
    let builder = Memory::weight_limit(200_000).weigher(|key, _| key % 10).clock(clock());
    assert_footprint(builder.miss_ratio_curve(true), |memory| {
        for key in 0..60_000 {
            memory.insert_with_ttl(key, [key; 3], Duration::from_secs(60));
            memory.get(&(key / 2));
        }
        let now = Clock::system().now();
        (0..3000).for_each(|key| {
            // Graded lives, and some that are written down apart for their length.
            let year = Duration::from_secs(365 * 24 * 3600);
            memory.insert_until(key, [key; 3], now + year, now + 2 * year);
        });
    });
}
