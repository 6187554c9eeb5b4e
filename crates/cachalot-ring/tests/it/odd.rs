//! Names, weights and keys that nobody expects.

use cachalot_ring::{
    Jump, Ketama, KetamaLayout, Maglev, Md5Ring, Node, Placement, Rendezvous, RingError, SlotRing,
};
use proptest::prelude::*;

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let weight = prop_oneof![Just(0), Just(1), 1..5_u32, any::<u32>(), Just(u32::MAX)];
    prop::collection::vec(
        (".{0,8}", weight).prop_map(|(name, weight)| Node::with_weight(name, weight)),
        0..12,
    )
}

/// Any of the algorithms, in the order of this list.
fn build(which: usize, nodes: Vec<Node>) -> Result<Box<dyn Placement>, RingError> {
    let ketama = |layout| Ketama::with_layout(nodes.clone(), layout);
    Ok(match which {
        0 => Box::new(ketama(KetamaLayout::Libmemcached)?),
        1 => Box::new(ketama(KetamaLayout::Named)?),
        2 => Box::new(ketama(KetamaLayout::LastFm)?),
        3 => Box::new(ketama(KetamaLayout::Spy)?),
        4 => Box::new(ketama(KetamaLayout::EvCache)?),
        5 => Box::new(Md5Ring::with_points(nodes, 10)?),
        6 => Box::new(SlotRing::with_slots(nodes, 256)?),
        7 => Box::new(Rendezvous::new(nodes)?),
        8 => Box::new(Jump::new(nodes)?),
        _ => Box::new(Maglev::with_slots(nodes, 211)?),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_nodes_and_keys_give_an_error_or_an_owner_with_a_weight(
        which in 0..10_usize,
        nodes in nodes(),
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
        count in 0..15_usize,
    ) {
        let known = nodes.clone();
        match build(which, nodes) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(ring) => {
                prop_assert_eq!(ring.nodes(), &known[..]);
                for key in keys {
                    let owners = ring.owners(&key, count);
                    prop_assert!(known[ring.owner(&key)].weight() > 0);
                    prop_assert!(owners.len() <= count);
                    prop_assert_eq!(owners.first().copied(), (count > 0).then(|| ring.owner(&key)));
                    prop_assert!(owners.iter().all(|owner| known[*owner].weight() > 0));
                }
            }
        }
    }
}

#[test]
fn weights_at_the_end_of_their_range_share_alike() {
    let nodes = || ["a", "b", "c", "d"].map(|name| Node::with_weight(name, u32::MAX)).to_vec();
    for which in [0, 6, 7, 9] {
        let ring = build(which, nodes()).unwrap();
        let mut owned = [0; 4];
        (0..4_000_u32).for_each(|key| owned[ring.owner(&key.to_be_bytes())] += 1);
        assert!(owned.iter().all(|owned| (700..1_300).contains(owned)), "{which}: {owned:?}");
    }
}
