//! Where 10,000 keys go, for ever: a release that moved one of them would empty its users' caches.
//!
//! Each file in `tests/golden` has a letter a key, from `user:0` on: the owner among sixteen nodes, `a` for the
//! first. A new algorithm's file is written by its first run with `CACHALOT_GOLDEN=write`; the others never change.

use std::path::Path;
use std::{env, fs};

use cachalot_ring::{Jump, Ketama, KetamaLayout, Maglev, Md5Ring, Placement, Rendezvous, SlotRing};

use crate::{equal, keys, weighted};

const KEYS: usize = 10_000;
const NODES: usize = 16;
const LINE: usize = 100;

fn letters(ring: &dyn Placement) -> String {
    let owners: Vec<u8> = keys(KEYS).map(|key| b'a' + ring.owner(&key) as u8).collect();
    owners.chunks(LINE).map(|line| String::from_utf8_lossy(line).into_owned() + "\n").collect()
}

fn holds(name: &str, ring: &dyn Placement) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("txt");
    let now = letters(ring);
    if env::var_os("CACHALOT_GOLDEN").is_some_and(|what| what == "write") && !file.exists() {
        fs::write(&file, &now).unwrap();
    }
    let golden = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; write it with CACHALOT_GOLDEN=write", file.display()));
    let moved = golden.bytes().zip(now.bytes()).filter(|(was, is)| was != is).count();
    assert!(
        golden.len() == now.len() && moved == 0,
        "{name}: {moved} of {KEYS} keys moved: every cache would be cold"
    );
}

#[test]
fn ketama_places_keys_as_ever() {
    let layouts = [
        ("ketama-libmemcached", KetamaLayout::Libmemcached),
        ("ketama-named", KetamaLayout::Named),
        ("ketama-last-fm", KetamaLayout::LastFm),
        ("ketama-spy", KetamaLayout::Spy),
        ("ketama-evcache", KetamaLayout::EvCache),
    ];
    for (name, layout) in layouts {
        holds(name, &Ketama::with_layout(weighted(NODES), layout).unwrap());
    }
}

#[test]
fn the_md5_ring_places_keys_as_ever() {
    holds("md5-ring", &Md5Ring::new(equal(NODES)).unwrap());
}

#[test]
fn the_slot_ring_places_keys_as_ever() {
    holds("slot-ring", &SlotRing::new(weighted(NODES)).unwrap());
    holds("slot-ring-equal", &SlotRing::with_slots(equal(NODES), 1 << 12).unwrap());
}

#[test]
fn rendezvous_places_keys_as_ever() {
    holds("rendezvous", &Rendezvous::new(weighted(NODES)).unwrap());
}

#[test]
fn jump_places_keys_as_ever() {
    holds("jump", &Jump::new(equal(NODES)).unwrap());
}

#[test]
fn maglev_places_keys_as_ever() {
    holds("maglev", &Maglev::new(weighted(NODES)).unwrap());
}
