use alloc::format;
use alloc::string::String;

use super::*;

fn names(nodes: usize) -> impl Iterator<Item = String> {
    (0..nodes).map(|node| format!("node-{node}"))
}

fn weighted(nodes: usize) -> Vec<Node> {
    names(nodes).enumerate().map(|(at, name)| Node::with_weight(name, [1, 2, 7, 50][at % 4])).collect()
}

#[test]
fn claiming_gives_every_slot_to_its_lowest_bid() {
    for nodes in [weighted(1), weighted(2), weighted(30), names(300).map(Node::new).collect()] {
        let ring = SlotRing::with_slots(nodes, 1 << 12).unwrap();
        for slot in 0..1 << 12 {
            let best = lowest(&ring.claimants, ring.bits, slot, 1)[0];
            assert_eq!(ring.table[slot as usize], ring.claimants[best.claimant()].index());
        }
    }
}

#[test]
fn the_second_owner_is_who_owns_the_key_without_the_first() {
    let ring = SlotRing::with_slots(weighted(9), 1 << 12).unwrap();
    for key in 0..500 {
        let key = format!("key-{key}");
        let owners = ring.owners(key.as_bytes(), 9);
        assert_eq!(owners[0], ring.owner(key.as_bytes()));
        let smaller = ring.without(ring.nodes()[owners[0]].name()).unwrap();
        let second = &smaller.nodes()[smaller.owner(key.as_bytes())];
        assert_eq!(second, &ring.nodes()[owners[1]]);
    }
}

#[test]
fn shares_scatter_no_more_than_slots_given_at_random() {
    let (nodes, slots) = (100, 1 << 16);
    let mut squares = 0.0;
    for fleet in 0..10 {
        let ring = SlotRing::new((0..nodes).map(|node| format!("{fleet}/10.0.0.{node}:6379"))).unwrap();
        let mut shares = vec![0_u32; nodes];
        ring.table.iter().for_each(|node| shares[usize::from(*node)] += 1);
        let mean = slots as f64 / nodes as f64;
        squares += shares.iter().map(|share| (f64::from(*share) / mean - 1.0).powi(2)).sum::<f64>();
        let peak = f64::from(*shares.iter().max().unwrap()) / mean;
        assert!(peak < 1.10, "{peak}");
    }
    let variance = squares / (10.0 * nodes as f64);
    let expected = nodes as f64 / slots as f64;
    assert!((0.3..1.0).contains(&(variance / expected)), "{}", variance / expected);
}

#[test]
fn a_table_is_a_power_of_two() {
    assert_eq!(SlotRing::with_slots(["a"], 1000).unwrap_err(), RingError::Table(1000));
    assert_eq!(SlotRing::with_slots(["a"], 8).unwrap_err(), RingError::Table(8));
    assert_eq!(SlotRing::with_slots(["a"], 0).unwrap_err(), RingError::Table(0));
}
