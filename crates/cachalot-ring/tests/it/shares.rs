//! How even the shares of the nodes are.

use cachalot_ring::{Jump, Ketama, Maglev, Md5Ring, Node, Placement, Rendezvous, SlotRing};

use crate::{equal, keys, weighted};

const KEYS: usize = 400_000;

/// The part of all keys that each node owns.
fn shares(ring: &dyn Placement) -> Vec<f64> {
    let mut owned = vec![0_u32; ring.nodes().len()];
    keys(KEYS).for_each(|key| owned[ring.owner(&key)] += 1);
    owned.into_iter().map(|owned| f64::from(owned) / KEYS as f64).collect()
}

fn peak_to_mean(ring: &dyn Placement) -> f64 {
    shares(ring).into_iter().fold(0.0, f64::max) * ring.nodes().len() as f64
}

/// No share is further from its weight than this part of it.
fn shares_follow_weights(ring: &dyn Placement, within: impl Fn(f64) -> f64) {
    let sum: u32 = ring.nodes().iter().map(Node::weight).sum();
    for (node, share) in ring.nodes().iter().zip(shares(ring)) {
        let ideal = f64::from(node.weight()) / f64::from(sum);
        let off = (share / ideal - 1.0).abs();
        assert!(off <= within(ideal), "{node:?} has {share}, not {ideal}");
    }
}

#[test]
fn the_fullest_of_ten_nodes_is_near_the_mean() {
    assert!(peak_to_mean(&Ketama::new(equal(10)).unwrap()) <= 1.25);
    assert!(peak_to_mean(&Md5Ring::new(equal(10)).unwrap()) <= 1.28);
    assert!(peak_to_mean(&SlotRing::new(equal(10)).unwrap()) <= 1.04);
    assert!(peak_to_mean(&Rendezvous::new(equal(10)).unwrap()) <= 1.02);
    assert!(peak_to_mean(&Maglev::new(equal(10)).unwrap()) <= 1.02);
    assert!(peak_to_mean(&Jump::new(equal(10)).unwrap()) <= 1.02);
}

#[test]
fn the_fullest_of_a_hundred_nodes_is_near_the_mean() {
    assert!(peak_to_mean(&Ketama::new(equal(100)).unwrap()) <= 1.33);
    assert!(peak_to_mean(&Md5Ring::new(equal(100)).unwrap()) <= 1.42);
    assert!(peak_to_mean(&SlotRing::new(equal(100)).unwrap()) <= 1.10);
    assert!(peak_to_mean(&Rendezvous::new(equal(100)).unwrap()) <= 1.06);
    assert!(peak_to_mean(&Maglev::new(equal(100)).unwrap()) <= 1.06);
    assert!(peak_to_mean(&Jump::new(equal(100)).unwrap()) <= 1.06);
}

#[test]
fn shares_are_in_proportion_to_weights() {
    let nodes = || weighted(10);
    let ketama = Ketama::new(nodes()).unwrap();
    shares_follow_weights(&ketama, |share| 3.0 / (share * ketama.points() as f64).sqrt());
    // Three standard deviations, of the slots and of the keys.
    shares_follow_weights(&SlotRing::new(nodes()).unwrap(), |share| 3.0 / (share * 65_536.0).sqrt());
    shares_follow_weights(&Rendezvous::new(nodes()).unwrap(), |share| 3.0 / (share * KEYS as f64).sqrt());
    shares_follow_weights(&Maglev::new(nodes()).unwrap(), |share| 3.0 / (share * KEYS as f64).sqrt());
}
