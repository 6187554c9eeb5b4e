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
mod report;
mod scenes;

use std::path::PathBuf;
use std::{env, fs, io};

use cachalot_ring::{Jump, Ketama, Maglev, Md5Ring, Rendezvous, SlotRing};

use contender::Contender;
use report::{Figure, Report};
use scenes::{Keys, Moves};

const ROUNDS: usize = 9;
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

fn main() -> io::Result<()> {
    let options = Options::parse()?;
    let keys = if options.bench { Keys::many() } else { Keys::few() };
    let mut report = Report::default();
    let entrants = options.entrants();
    for nodes in FLEETS {
        let case = format!("{nodes} nodes");
        let lower = |metric, unit| Figure { case: case.clone(), metric, unit };
        rounds(options.rounds, &entrants, &format!("{case}: lookup"), |one| {
            report.add(lower("lookup", "ns/op"), one.name, (one.lookup)(nodes, &keys));
        });
        for baseline in ["hashring", "ketama", "jumphash", "anchorhash"] {
            report.compare(&case, "lookup", baseline);
        }
        // One of them takes seconds to build a thousand nodes.
        let builds = if nodes < 1_000 { options.rounds } else { options.rounds.min(3) };
        rounds(builds, &entrants, &format!("{case}: build"), |one| {
            report.add(lower("build", "ms"), one.name, (one.build)(nodes, &keys));
        });
        rounds(1, &entrants, &format!("{case}: sizes, shares and moves"), |one| {
            report.add(lower("memory", "KiB"), one.name, (one.bytes)(nodes) / 1024.0);
            report.add(lower("peak to mean", "times"), one.name, (one.peak)(nodes, &keys));
            let moves = (one.moves)(nodes, &keys);
            report.add(lower("moved by a join", "of its share"), one.name, moves.join);
            report.add(lower("moved by a leave", "of its share"), one.name, moves.leave);
            report.add(lower("moved between others", "%"), one.name, moves.between_others);
        });
    }
    print!("\n{}", report.table());
    match options.report {
        Some(file) => fs::write(file, report.rows()),
        None => Ok(()),
    }
}

struct Options {
    rounds: usize,
    only: Option<String>,
    report: Option<PathBuf>,
    bench: bool,
}

impl Options {
    fn parse() -> io::Result<Self> {
        let usage = || {
            let usage = "usage: ring [--rounds N] [--only NAME] [--report FILE]";
            io::Error::new(io::ErrorKind::InvalidInput, usage)
        };
        let mut options = Self { rounds: ROUNDS, only: None, report: None, bench: false };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => options.bench = true,
                "--rounds" => {
                    let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                    options.rounds = rounds.filter(|rounds| *rounds > 0).ok_or_else(usage)?;
                }
                "--only" => options.only = Some(args.next().ok_or_else(usage)?),
                "--report" => options.report = Some(args.next().ok_or_else(usage)?.into()),
                _ => return Err(usage()),
            }
        }
        if !options.bench {
            options.rounds = 1;
        }
        Ok(options)
    }

    fn entrants(&self) -> Vec<&'static Entrant> {
        let wanted = |one: &&Entrant| self.only.as_deref().is_none_or(|only| only == one.name);
        ENTRANTS.iter().filter(wanted).collect()
    }
}

/// Each contender in turn, round after round; each round begins with another one.
fn rounds(count: usize, entrants: &[&Entrant], scene: &str, mut play: impl FnMut(&Entrant)) {
    for round in 0..count {
        eprintln!("round {}/{count}  ring  {scene}", round + 1);
        (0..entrants.len()).for_each(|at| play(entrants[(at + round) % entrants.len()]));
    }
}
