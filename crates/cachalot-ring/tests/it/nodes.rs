//! What a list of nodes may be, and that its order says nothing.

use std::collections::HashSet;

use cachalot_ring::{
    Jump, Ketama, KetamaLayout, Maglev, Md5Ring, Node, Placement, Rendezvous, Reshape, RingError, SlotRing,
};

use crate::{equal, keys, owner, weighted};

type Build<R> = fn(Vec<Node>) -> Result<R, RingError>;

const KETAMA: Build<Ketama> = Ketama::new::<Node>;
const MD5_RING: Build<Md5Ring> = Md5Ring::new::<Node>;
const SLOT_RING: Build<SlotRing> = SlotRing::new::<Node>;
const RENDEZVOUS: Build<Rendezvous> = Rendezvous::new::<Node>;
const MAGLEV: Build<Maglev> = Maglev::new::<Node>;
const JUMP: Build<Jump> = Jump::new::<Node>;

fn places_alike<R: Placement>(build: Build<R>, nodes: Vec<Node>) {
    let mut turned = nodes.clone();
    turned.reverse();
    turned.swap(1, 4);
    let (ring, turned) = (build(nodes).unwrap(), build(turned).unwrap());
    let names = |ring: &R, key: &[u8]| -> Vec<String> {
        ring.owners(key, 4).into_iter().map(|node| ring.nodes()[node].name().to_owned()).collect()
    };
    for key in keys(2_000) {
        assert_eq!(owner(&ring, &key), owner(&turned, &key));
        assert_eq!(names(&ring, &key), names(&turned, &key));
    }
}

#[test]
fn the_order_of_the_nodes_changes_nothing() {
    places_alike(KETAMA, weighted(9));
    places_alike(MD5_RING, equal(9));
    places_alike(SLOT_RING, weighted(9));
    places_alike(RENDEZVOUS, weighted(9));
    places_alike(MAGLEV, weighted(9));
}

fn owners_are_distinct<R: Placement>(build: Build<R>) {
    let ring = build(equal(7)).unwrap();
    for key in keys(500) {
        for count in 0..10 {
            let owners = ring.owners(&key, count);
            assert_eq!(owners.len(), count.min(7));
            assert_eq!(owners.iter().collect::<HashSet<_>>().len(), owners.len());
            assert!(owners.first().is_none_or(|first| *first == ring.owner(&key)));
            assert!(ring.owners(&key, 9).starts_with(&owners), "fewer copies are the first of more");
        }
    }
}

#[test]
fn copies_go_to_distinct_nodes_the_owner_first() {
    owners_are_distinct(KETAMA);
    owners_are_distinct(MD5_RING);
    owners_are_distinct(SLOT_RING);
    owners_are_distinct(RENDEZVOUS);
    owners_are_distinct(MAGLEV);
    owners_are_distinct(JUMP);
}

fn no_node_is_an_error<R: Placement>(build: Build<R>) {
    assert_eq!(build(Vec::new()).unwrap_err(), RingError::Empty);
    let twice = vec![Node::new("a"), Node::new("b"), Node::new("a")];
    assert_eq!(build(twice).unwrap_err(), RingError::Duplicate("a".into()));
    let crowd = (0..70_000).map(|node| Node::new(node.to_string())).collect();
    assert!(matches!(build(crowd).unwrap_err(), RingError::TooMany { nodes: 70_000, .. }));
}

#[test]
fn no_nodes_too_many_and_the_same_twice_are_errors() {
    no_node_is_an_error(KETAMA);
    no_node_is_an_error(MD5_RING);
    no_node_is_an_error(SLOT_RING);
    no_node_is_an_error(RENDEZVOUS);
    no_node_is_an_error(MAGLEV);
    no_node_is_an_error(JUMP);
}

fn weight_zero_is_absence<R: Reshape>(build: Build<R>) {
    let mut nodes = weighted(6);
    nodes[2] = Node::with_weight(nodes[2].name(), 0);
    let drained = build(nodes).unwrap();
    let without = build(weighted(6)).unwrap().without("node-2:11211").unwrap();
    for key in keys(2_000) {
        assert_eq!(owner(&drained, &key), owner(&without, &key));
        assert_eq!(drained.owners(&key, 6).len(), 5);
    }
    let none = vec![Node::with_weight("a", 0), Node::with_weight("b", 0)];
    assert_eq!(build(none).unwrap_err(), RingError::Empty);
}

#[test]
fn a_node_of_weight_0_is_as_good_as_absent() {
    weight_zero_is_absence(KETAMA);
    weight_zero_is_absence(SLOT_RING);
    weight_zero_is_absence(RENDEZVOUS);
    weight_zero_is_absence(MAGLEV);
}

#[test]
fn who_is_not_there_cannot_leave_and_the_last_one_stays() {
    let ring = SlotRing::new(["a"]).unwrap();
    assert_eq!(ring.without("b").unwrap_err(), RingError::Unknown("b".into()));
    assert_eq!(ring.without("a").unwrap_err(), RingError::Empty);
    assert_eq!(ring.with("a").unwrap_err(), RingError::Duplicate("a".into()));
}

#[test]
fn a_change_keeps_the_settings() {
    let spy = Ketama::with_layout(["1.1.1.1:1", "1.1.1.2:1"], KetamaLayout::Spy).unwrap();
    assert_eq!(spy.with("1.1.1.3:1").unwrap().layout(), KetamaLayout::Spy);

    let keeps = |changed: &dyn Placement, built: &dyn Placement| {
        assert!(keys(2_000).all(|key| changed.owner(&key) == built.owner(&key)));
    };
    let (two, three) = (["a", "b"], ["a", "b", "c"]);
    keeps(
        &SlotRing::with_slots(two, 64).unwrap().with("c").unwrap(),
        &SlotRing::with_slots(three, 64).unwrap(),
    );
    keeps(
        &Maglev::with_slots(two, 101).unwrap().with("c").unwrap(),
        &Maglev::with_slots(three, 101).unwrap(),
    );
    keeps(
        &Md5Ring::with_points(two, 7).unwrap().with("c").unwrap(),
        &Md5Ring::with_points(three, 7).unwrap(),
    );
}

#[test]
fn errors_say_what_is_wrong() {
    assert_eq!(RingError::Duplicate("a".into()).to_string(), "node \"a\" is there twice");
    assert_eq!(RingError::TooMany { nodes: 9, nodes_max: 3 }.to_string(), "9 nodes, at most 3");
    assert_eq!(RingError::Empty.to_string(), "no node to place keys on: none, or all of weight 0");
}

#[test]
fn snapshots_are_shared_between_threads() {
    fn shared<T: Placement + Clone + Send + Sync + 'static>() {}
    shared::<Ketama>();
    shared::<Md5Ring>();
    shared::<SlotRing>();
    shared::<Rendezvous>();
    shared::<Jump>();
    shared::<Maglev>();
}
