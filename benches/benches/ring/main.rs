//! Which node owns a key: the time of a lookup and of building, bytes, how uneven the shares are, and what moves when
//! a node comes or goes.
//!
//! Prints a table; with `--report FILE` writes the same as JSON lines, a row each. `--rounds N`: how often the
//! contenders measure themselves in turn. `--only NAME`: one contender alone, to be profiled. Without `--bench`
//! everything is done once with few keys, as a check.

#![allow(missing_docs, reason = "a program")]

mod contender;
#[cfg(feature = "peers")]
mod peers;
mod scenes;

use std::{env, io};

use benches::{Figure, Options, Sheet, rounds};
use cachalot_ring::{Jump, Ketama, Maglev, Md5Ring, Rendezvous, SlotRing};

use contender::Contender;
use scenes::{Keys, Moves};

const FLEETS: [usize; 3] = [10, 100, 1_000];

/// A contender and its part in every scene.
struct Entrant {
    name: &'static str,
    lookup: fn(usize, &Keys) -> f64,
    build: fn(usize, &Keys) -> f64,
    bytes: fn(usize) -> f64,
    peak: fn(usize, &Keys) -> f64,
    moves: fn(usize, &Keys) -> Moves,
}

impl Entrant {
    const fn new<C: Contender>(name: &'static str) -> Self {
        Self {
            name,
            lookup: scenes::lookup::<C>,
            build: scenes::build::<C>,
            bytes: scenes::bytes::<C>,
            peak: scenes::peak_to_mean::<C>,
            moves: scenes::moves::<C>,
        }
    }
}

const ENTRANTS: &[Entrant] = &[
    Entrant::new::<SlotRing>("slot ring"),
    Entrant::new::<Ketama>("our ketama"),
    Entrant::new::<Md5Ring>("md5 ring"),
    Entrant::new::<Rendezvous>("rendezvous"),
    Entrant::new::<Jump>("our jump"),
    Entrant::new::<Maglev>("maglev"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::HashRing>("hashring"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::ConsistentHashRing>("consistent_hash_ring"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::KetamaCrate>("ketama"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::JumpHash>("jumphash"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::Anchor>("anchorhash"),
];

const LOOKUP: Figure = Figure::new("lookup", "ns/op");
const LOOKUP_RATIOS: [(&str, Figure); 4] = [
    ("hashring", Figure::new("lookup / hashring", "ratio")),
    ("ketama", Figure::new("lookup / ketama", "ratio")),
    ("jumphash", Figure::new("lookup / jumphash", "ratio")),
    ("anchorhash", Figure::new("lookup / anchorhash", "ratio")),
];
const BUILD: Figure = Figure::new("build", "ms");
const MEMORY: Figure = Figure::new("memory", "KiB");
const PEAK: Figure = Figure::new("peak to mean", "times");
const JOIN: Figure = Figure::new("moved by a join", "of its share");
const LEAVE: Figure = Figure::new("moved by a leave", "of its share");
const BETWEEN_OTHERS: Figure = Figure::new("moved between others", "%");

fn main() -> io::Result<()> {
    let options = Options::parse("ring", env::args().skip(1))?;
    let keys = if options.bench { Keys::many() } else { Keys::few() };
    let mut sheet = Sheet::new("ring");
    let wanted = |one: &&Entrant| options.only.as_deref().is_none_or(|only| only == one.name);
    let mut entrants: Vec<&Entrant> = ENTRANTS.iter().filter(wanted).collect();
    for nodes in FLEETS {
        let case = format!("{nodes} nodes");
        rounds(options.rounds, &format!("ring  {case}: lookup"), &mut entrants, |one| {
            sheet.add(&case, one.name, LOOKUP, (one.lookup)(nodes, &keys));
        });
        for (baseline, ratio) in LOOKUP_RATIOS {
            sheet.compare(&case, LOOKUP.metric, baseline, ratio);
        }
        // One of them takes seconds to build a thousand nodes.
        let builds = if nodes < 1_000 { options.rounds } else { options.rounds.min(3) };
        rounds(builds, &format!("ring  {case}: build"), &mut entrants, |one| {
            sheet.add(&case, one.name, BUILD, (one.build)(nodes, &keys));
        });
        rounds(1, &format!("ring  {case}: sizes, shares and moves"), &mut entrants, |one| {
            sheet.add(&case, one.name, MEMORY, (one.bytes)(nodes) / 1024.0);
            sheet.add(&case, one.name, PEAK, (one.peak)(nodes, &keys));
            let moves = (one.moves)(nodes, &keys);
            sheet.add(&case, one.name, JOIN, moves.join);
            sheet.add(&case, one.name, LEAVE, moves.leave);
            sheet.add(&case, one.name, BETWEEN_OTHERS, moves.between_others);
        });
    }
    sheet.finish(&options)
}
