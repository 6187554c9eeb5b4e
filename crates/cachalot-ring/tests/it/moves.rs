//! Which keys move when a node comes or goes.

use cachalot_ring::{Ketama, Maglev, Md5Ring, Node, Rendezvous, Reshape, RingError, SlotRing};

use crate::{equal, keys, owner, weighted};

const KEYS: usize = 100_000;

/// How many keys moved, and how many of them neither to nor from the node that came or went.
#[derive(Debug)]
struct Moved {
    all: usize,
    between_others: usize,
}

fn moved(before: &impl Reshape, after: &impl Reshape, changed: &str) -> Moved {
    let mut moved = Moved { all: 0, between_others: 0 };
    for key in keys(KEYS) {
        let (from, to) = (owner(before, &key), owner(after, &key));
        moved.all += usize::from(from != to);
        moved.between_others += usize::from(from != to && from != changed && to != changed);
    }
    moved
}

/// A node of `weight` joins `nodes`, and one of them leaves: each moves its own share and nothing else.
fn moves_its_share_only<R: Reshape>(
    build: impl Fn(Vec<Node>) -> Result<R, RingError>,
    nodes: Vec<Node>,
    weight: u32,
    scatter: f64,
) {
    let sum: u32 = nodes.iter().map(Node::weight).sum();
    let near = |moved: &Moved, weight: u32, sum: u32| {
        let ideal = KEYS as f64 * f64::from(weight) / f64::from(sum);
        assert!((moved.all as f64 - ideal).abs() <= 4.0 * scatter * ideal, "{moved:?} of {ideal}");
    };
    let ring = build(nodes.clone()).unwrap();

    let joined = moved(&ring, &ring.with(Node::with_weight("new", weight)).unwrap(), "new");
    assert_eq!(joined.between_others, 0);
    near(&joined, weight, sum + weight);

    let leaver = &nodes[nodes.len() / 2];
    let left = moved(&ring, &ring.without(leaver.name()).unwrap(), leaver.name());
    assert_eq!(left.between_others, 0);
    near(&left, leaver.weight(), sum);
}

#[test]
fn a_node_of_ketama_moves_its_share_only() {
    // Neither 9, 10 nor 11 is a number of nodes whose rounding costs a node four points.
    moves_its_share_only(Ketama::new::<Node>, equal(10), 1, 1.0 / 160_f64.sqrt());
}

#[test]
fn the_hundred_and_first_node_of_ketama_gives_all_others_their_last_points() {
    let hundred = Ketama::new(equal(100)).unwrap();
    let more = hundred.with("new").unwrap();
    assert_eq!((hundred.points(), more.points()), (100 * 156, 101 * 160));
    let moved = moved(&hundred, &more, "new");
    assert!((KEYS / 100..KEYS / 30).contains(&moved.between_others), "{moved:?}");
}

#[test]
fn a_node_of_the_md5_ring_moves_its_share_only() {
    moves_its_share_only(Md5Ring::new::<Node>, equal(10), 1, 0.1);
}

#[test]
fn a_node_of_the_slot_ring_moves_its_share_only() {
    moves_its_share_only(SlotRing::new::<Node>, equal(10), 1, 0.02);
    moves_its_share_only(SlotRing::new::<Node>, weighted(10), 3, 0.02);
    moves_its_share_only(SlotRing::new::<Node>, equal(200), 1, 0.07);
}

#[test]
fn a_node_of_rendezvous_moves_its_share_only() {
    moves_its_share_only(Rendezvous::new::<Node>, equal(10), 1, 0.02);
    moves_its_share_only(Rendezvous::new::<Node>, weighted(10), 3, 0.02);
}

#[test]
fn maglev_moves_little_between_others() {
    let ring = Maglev::new(equal(10)).unwrap();
    let joined = moved(&ring, &ring.with("new").unwrap(), "new");
    let left = moved(&ring, &ring.without("node-5:11211").unwrap(), "node-5:11211");
    for (moved, ideal) in [(joined, KEYS / 11), (left, KEYS / 10)] {
        assert!((1..KEYS / 50).contains(&moved.between_others), "{moved:?}");
        assert!((moved.all - moved.between_others).abs_diff(ideal) < ideal / 20, "{moved:?} of {ideal}");
    }
}

#[test]
fn a_node_whose_weight_grows_only_gains() {
    fn only_gains<R: Reshape>(build: impl Fn(Vec<Node>) -> Result<R, RingError>) {
        let light = build(weighted(12)).unwrap();
        let mut nodes = weighted(12);
        nodes[4] = Node::with_weight(nodes[4].name(), 10);
        let heavy = light.reshape(nodes).unwrap();
        let moved = moved(&light, &heavy, "node-4:11211");
        assert!(moved.all > KEYS / 10 && moved.between_others == 0, "{moved:?}");
        assert!(
            keys(KEYS)
                .all(|key| owner(&light, &key) != "node-4:11211" || owner(&heavy, &key) == "node-4:11211")
        );
    }
    only_gains(SlotRing::new::<Node>);
    only_gains(Rendezvous::new::<Node>);
}
