use alloc::format;
use alloc::string::ToString;

use super::*;

/// Eight servers on port 11211 with weights, as in libmemcached's tests.
fn fleet(layout: KetamaLayout) -> Ketama {
    let weights = [600, 300, 200, 350, 1000, 800, 950, 100];
    let nodes = weights.iter().zip(1..).map(|(weight, host)| {
        // spymemcached does not leave the port out.
        Node::with_weight(format!("10.0.1.{host}:11211"), *weight)
    });
    Ketama::with_layout(nodes, layout).unwrap()
}

/// Key, its place, the point that takes it, libmemcached's server and spymemcached's.
const VECTORS: [(&str, u32, u32, u8, u8); 10] = [
    ("SVa_]_V41)", 443691461, 445379617, 7, 2),
    ("*/Z;?V(.\\8", 1422915503, 1428303028, 1, 4),
    ("30C1*Z*S/_", 1473165754, 1480075959, 2, 2),
    ("ERR:EC58G>", 2148406511, 2168579133, 7, 7),
    ("1I=cTMNTKF", 2882686667, 2885206587, 5, 4),
    ("]VG<`I*Z8)", 1103544263, 1104827657, 5, 5),
    ("UUTC`-V159", 3716288206, 3727224240, 5, 7),
    ("@7RU6C6T+Z", 3862737685, 3871917949, 5, 6),
    ("/XLN0@+36;", 1623269830, 1627683651, 1, 7),
    ("4(`X;\\V.^c", 373546328, 383925769, 1, 6),
];

fn host(ring: &Ketama, owner: usize) -> &str {
    ring.nodes()[owner].name()
}

/// The first point at or behind `place`, found by asking who has which points.
fn point_behind(ring: &Ketama, place: u32) -> u32 {
    let points = points(&ring.members, ring.layout).unwrap();
    let behind = points.iter().map(|(point, _)| *point).filter(|point| *point >= place).min();
    behind.or_else(|| points.iter().map(|(point, _)| *point).min()).unwrap()
}

#[test]
fn keys_points_and_servers_are_those_of_libmemcached_and_twemproxy() {
    let ring = fleet(KetamaLayout::Libmemcached);
    for (key, place, point, server, _) in VECTORS {
        assert_eq!(Ketama::place(key.as_bytes()), place);
        assert_eq!(point_behind(&ring, place), point, "{key}");
        assert_eq!(host(&ring, ring.owner(key.as_bytes())), format!("10.0.1.{server}:11211"), "{key}");
    }
}

#[test]
fn servers_are_those_of_spymemcached() {
    let ring = fleet(KetamaLayout::Spy);
    for (key, _, _, _, server) in VECTORS {
        assert_eq!(host(&ring, ring.owner(key.as_bytes())), format!("10.0.1.{server}:11211"), "{key}");
    }
}

#[test]
fn the_original_ketama_of_last_fm_finds_its_server() {
    let nodes = [Node::with_weight("127.0.0.1:11211", 600), Node::with_weight("127.0.0.1:11212", 400)];
    let ring = Ketama::with_layout(nodes, KetamaLayout::LastFm).unwrap();
    assert_eq!(ring.points(), 320);
    assert_eq!(Ketama::place(b"test"), 3446378249);
    assert_eq!(point_behind(&ring, 3446378249), 3454255383);
    assert_eq!(host(&ring, ring.owner(b"test")), "127.0.0.1:11211");
}

#[test]
fn weights_give_the_points_of_libmemcached() {
    let ring = fleet(KetamaLayout::Libmemcached);
    let points = points(&ring.members, ring.layout).unwrap();
    let of = |node: u16| points.iter().filter(|(_, owner)| *owner == node).count();
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(of), [176, 88, 56, 104, 296, 236, 280, 28]);
    assert_eq!(ring.points(), 1264);
}

#[test]
fn a_key_past_the_last_point_belongs_to_the_first() {
    let ring = fleet(KetamaLayout::Libmemcached);
    assert_eq!(Ketama::place(b"VDEAAAAA"), 0xfffc_d1b5);
    let points = points(&ring.members, ring.layout).unwrap();
    let (first, owner) = points.iter().min().unwrap();
    assert!(points.iter().all(|(point, _)| *point < 0xfffc_d1b5));
    assert_eq!(point_behind(&ring, 0xfffc_d1b5), *first);
    assert_eq!(ring.owner(b"VDEAAAAA"), usize::from(*owner));
}

/// So many nodes of equal weight, of which each should get 40 digests and gets one less.
fn short_of_a_digest(layout: KetamaLayout) -> Vec<usize> {
    (1..=300).filter(|nodes| layout.digests(1, *nodes as u64, *nodes) == 39).collect()
}

#[test]
fn the_roundings_of_single_precision_are_kept() {
    let libmemcached = short_of_a_digest(KetamaLayout::Libmemcached);
    assert_eq!(libmemcached[..12], [25, 47, 50, 55, 61, 71, 94, 100, 107, 109, 110, 115]);
    assert_eq!(libmemcached.len(), 32);
    assert_eq!(short_of_a_digest(KetamaLayout::LastFm), [61, 122, 237, 244]);

    let points = |nodes: usize| Ketama::new((0..nodes).map(|node| node.to_string())).unwrap().points();
    assert_eq!(points(10), 1600);
    assert_eq!(points(25), 3900);
}

#[test]
fn each_layout_hashes_its_own_string() {
    let label = |layout: KetamaLayout, name| layout.label(name).into_owned();
    assert_eq!(label(KetamaLayout::Libmemcached, "10.0.0.1:11211"), "10.0.0.1");
    assert_eq!(label(KetamaLayout::Libmemcached, "10.0.0.1:11212"), "10.0.0.1:11212");
    assert_eq!(label(KetamaLayout::Named, "eu:11211"), "eu:11211");
    assert_eq!(label(KetamaLayout::LastFm, "10.0.0.1:11211"), "10.0.0.1:11211");
    assert_eq!(label(KetamaLayout::Spy, "10.0.0.1:11211"), "/10.0.0.1:11211");
    assert_eq!(label(KetamaLayout::Spy, "a.example/10.0.0.1:11211"), "a.example/10.0.0.1:11211");
    assert_eq!(label(KetamaLayout::EvCache, "10.0.0.1:11211"), "10.0.0.1/10.0.0.1:11211");
}

#[test]
fn evcache_gives_every_node_160_points() {
    let nodes = [Node::with_weight("10.0.0.1:11211", 9), Node::new("10.0.0.2:11211")];
    assert_eq!(Ketama::with_layout(nodes, KetamaLayout::EvCache).unwrap().points(), 320);
}

#[test]
fn a_host_with_and_without_the_usual_port_is_the_same_server() {
    let twice = ["10.0.0.1", "10.0.0.1:11211"];
    assert_eq!(Ketama::new(twice).unwrap_err(), RingError::Duplicate("10.0.0.1".into()));
    assert!(Ketama::with_layout(twice, KetamaLayout::Named).is_ok());
}

#[test]
fn weights_too_uneven_for_a_point_leave_a_node_without_keys() {
    let nodes = [Node::with_weight("big", u32::MAX), Node::new("small")];
    let ring = Ketama::new(nodes).unwrap();
    assert_eq!(ring.owners(b"key", 2), [0]);
}
