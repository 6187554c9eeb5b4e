//! A lookup allocates nothing. In a program of its own, since the allocator counts.
#![allow(clippy::unwrap_used, reason = "a test")]

use cachalot_ring::{Jump, Ketama, Maglev, Md5Ring, Placement, Rendezvous, SlotRing};

#[test]
fn finding_the_owner_allocates_nothing() {
    let names = || (0..50).map(|node| format!("node-{node}"));
    let rings: [Box<dyn Placement>; 6] = [
        Box::new(SlotRing::new(names()).unwrap()),
        Box::new(Ketama::new(names()).unwrap()),
        Box::new(Md5Ring::new(names()).unwrap()),
        Box::new(Rendezvous::new(names()).unwrap()),
        Box::new(Jump::new(names()).unwrap()),
        Box::new(Maglev::new(names()).unwrap()),
    ];
    let key = [7; 1_000];
    for ring in &rings {
        let counted = allocation_counter::measure(|| {
            for length in 0..key.len() {
                assert!(ring.owner(&key[..length]) < 50);
            }
        });
        assert_eq!(counted.count_total, 0, "{ring:?}");
    }
}
