//! Many callers of one missing key, of a failing source, of a slow one; writes while a load runs; and what a hit
//! costs where all this is prevented.
//!
//! Prints a table; with `--report FILE` writes the same as JSON lines, a row each. `--rounds N`: how often the
//! contenders measure themselves in turn. `--only NAME`: one contender alone, to be profiled. Without `--bench`
//! everything is played once, as a check.

#![allow(missing_docs, reason = "a program")]

mod contender;
mod ours;
#[cfg(feature = "peers")]
mod peers;
mod report;
mod scenes;

use std::path::PathBuf;
use std::{env, fs, io};

use allocation_counter::AllocationInfo;
use benches::HOT_KEYS;

use contender::{Contender, Writable};
use report::{Figure, Report};
use scenes::{CROWD, Failure, HURRIED, Hits, Hurry, Storm, UNLUCKY};

const ROUNDS: usize = 9;
/// Of scenes that count and mostly sleep.
const COUNTING_ROUNDS: usize = 3;

/// A contender and its part in every scene.
struct Entrant {
    name: &'static str,
    /// `None`: it keeps nothing.
    hits: Option<fn(u64) -> Hits>,
    storm: fn() -> Storm,
    allocations: fn() -> AllocationInfo,
    failing: fn() -> Failure,
    hurried: fn() -> Hurry,
    panicking: fn() -> bool,
    /// `None`: it cannot be written to, or keeps nothing.
    writes: Option<Writes>,
}

/// What becomes of writes during a load.
struct Writes {
    comes_back: fn() -> bool,
    is_overwritten: fn() -> bool,
}

impl Entrant {
    const fn new<C: Contender>(name: &'static str) -> Self {
        Self {
            name,
            hits: Some(scenes::hits::<C>),
            storm: scenes::storm::<C>,
            allocations: scenes::allocations::<C>,
            failing: scenes::failing::<C>,
            hurried: scenes::hurried::<C>,
            panicking: scenes::panicking::<C>,
            writes: None,
        }
    }

    const fn written<C: Writable>(name: &'static str) -> Self {
        let writes =
            Writes { comes_back: scenes::comes_back::<C>, is_overwritten: scenes::is_overwritten::<C> };
        Self { writes: Some(writes), ..Self::new::<C>(name) }
    }
}

const ENTRANTS: &[Entrant] = &[
    Entrant::written::<ours::Cachalot>("cachalot"),
    Entrant { hits: None, ..Entrant::new::<ours::Alone>("SingleFlight") },
    #[cfg(feature = "peers")]
    Entrant::written::<peers::Moka>("moka"),
    #[cfg(feature = "peers")]
    Entrant::written::<peers::QuickCache>("quick_cache"),
    #[cfg(feature = "peers")]
    Entrant::written::<peers::Foyer>("foyer"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::Cached>("cached"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::Hitbox>("hitbox"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::HitboxAsItComes>("hitbox default"),
    #[cfg(feature = "peers")]
    Entrant::new::<peers::OnceCells>("once cells"),
];

const HIT: Figure = lower("hit on 10,000 keys", "time", "ns/op");
const HIT_CPU: Figure = lower(HIT.case, "CPU", "ns/op");
const HIT_ON_ONE: Figure = lower("hit on one key", "time", "ns/op");
const HIT_ON_ONE_CPU: Figure = lower(HIT_ON_ONE.case, "CPU", "ns/op");
const STORM_CPU: Figure = lower("10,000 at a missing key", "CPU", "ms");

const fn lower(case: &'static str, metric: &'static str, unit: &'static str) -> Figure {
    Figure { case, metric, unit, better: "lower" }
}

fn main() -> io::Result<()> {
    let options = Options::parse()?;
    let mut report = Report::default();
    let entrants = options.entrants();
    rounds(options.rounds, &entrants, "hits", |one| add_hits(&mut report, one));
    rounds(options.rounds, &entrants, "a crowd at a missing key", |one| add_storm(&mut report, one));
    rounds(1, &entrants, "what a crowd allocates", |one| add_allocations(&mut report, one));
    let counting = options.rounds.min(COUNTING_ROUNDS);
    rounds(counting, &entrants, "a failing source", |one| add_failure(&mut report, one));
    rounds(counting, &entrants, "callers in a hurry", |one| add_hurry(&mut report, one));
    rounds(1, &entrants, "writes during a load, and a panic in one", |one| add_writes(&mut report, one));
    for hit in [HIT, HIT_CPU, HIT_ON_ONE, HIT_ON_ONE_CPU] {
        report.compare(hit, "quick_cache");
    }
    report.compare(STORM_CPU, "foyer");
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
}

impl Options {
    fn parse() -> io::Result<Self> {
        let usage = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "usage: stampede [--rounds N] [--only NAME] [--report FILE]",
            )
        };
        let (mut options, mut bench, mut args) =
            (Self { rounds: ROUNDS, only: None, report: None }, false, env::args().skip(1));
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => bench = true,
                "--rounds" => {
                    let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                    options.rounds = rounds.filter(|rounds| *rounds > 0).ok_or_else(usage)?;
                }
                "--only" => options.only = Some(args.next().ok_or_else(usage)?),
                "--report" => options.report = Some(args.next().ok_or_else(usage)?.into()),
                _ => return Err(usage()),
            }
        }
        if !bench {
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
        eprintln!("round {}/{count}  stampede  {scene}", round + 1);
        (0..entrants.len()).for_each(|at| play(entrants[(at + round) % entrants.len()]));
    }
}

fn add_hits(report: &mut Report, one: &Entrant) {
    if let Some(hits) = one.hits {
        for (case, keys) in [(HIT.case, HOT_KEYS), (HIT_ON_ONE.case, 1)] {
            let hits = hits(keys);
            report.add(lower(case, "time", "ns/op"), one.name, hits.wall_ns);
            report.add(lower(case, "CPU", "ns/op"), one.name, hits.cpu_ns);
        }
    }
}

fn add_storm(report: &mut Report, one: &Entrant) {
    let storm = (one.storm)();
    let case = STORM_CPU.case;
    report.add(lower(case, "loads", "calls"), one.name, storm.loads as f64);
    report.add(STORM_CPU, one.name, storm.cpu.as_secs_f64() * 1e3);
    report.add(lower(case, "wall", "ms"), one.name, storm.wall.as_secs_f64() * 1e3);
}

fn add_allocations(report: &mut Report, one: &Entrant) {
    let AllocationInfo { count_total, bytes_max, .. } = (one.allocations)();
    let per_caller = count_total as f64 / CROWD as f64;
    report.add(lower(STORM_CPU.case, "allocations", "per caller"), one.name, per_caller);
    let peak = bytes_max as f64 / CROWD as f64;
    report.add(lower(STORM_CPU.case, "peak memory", "bytes per caller"), one.name, peak);
}

fn add_failure(report: &mut Report, one: &Entrant) {
    const { assert!(UNLUCKY == 50) };
    let (failure, case) = ((one.failing)(), "50 at a failing source");
    report.add(lower(case, "loads", "calls"), one.name, failure.loads as f64);
    report.add(lower(case, "last error", "ms"), one.name, failure.wall.as_secs_f64() * 1e3);
}

fn add_hurry(report: &mut Report, one: &Entrant) {
    const { assert!(HURRIED == 10) };
    let (hurry, case) = ((one.hurried)(), "10 with 50 ms for a load of 120");
    let higher = |metric, unit| Figure { case, metric, unit, better: "higher" };
    report.add(lower(case, "loads", "calls"), one.name, hurry.loads as f64);
    report.add(higher("served", "callers"), one.name, hurry.served as f64);
    report.add(higher("filled afterwards", "of 1"), one.name, f64::from(hurry.filled));
}

fn add_writes(report: &mut Report, one: &Entrant) {
    let of_1 = |case, metric, better| Figure { case, metric, unit: "of 1", better };
    if let Some(writes) = &one.writes {
        let returned = of_1("a removal during a load", "old value comes back", "lower");
        report.add(returned, one.name, f64::from((writes.comes_back)()));
        let overwritten = of_1("an insert during a load", "old value overwrites it", "lower");
        report.add(overwritten, one.name, f64::from((writes.is_overwritten)()));
    }
    let served = of_1("a loader that panics", "next caller served", "higher");
    report.add(served, one.name, f64::from((one.panicking)()));
}
