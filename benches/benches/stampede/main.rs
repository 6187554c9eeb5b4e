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
mod scenes;

use std::{env, io};

use allocation_counter::AllocationInfo;
use benches::{Figure, HOT_KEYS, Options, Sheet, rounds};

use contender::{Contender, Writable};
use scenes::{CROWD, Failure, HURRIED, Hits, Hurry, Storm, UNLUCKY};

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

const HIT: &str = "hit on 10,000 keys";
const HIT_ON_ONE: &str = "hit on one key";
const STORM: &str = "10,000 at a missing key";
const TIME: Figure = Figure::new("time", "ns/op");
const CPU: Figure = Figure::new("CPU", "ns/op");
const LOADS: Figure = Figure::new("loads", "calls");

fn main() -> io::Result<()> {
    let options = Options::parse("stampede", env::args().skip(1))?;
    let mut sheet = Sheet::new("stampede");
    let wanted = |one: &&Entrant| options.only.as_deref().is_none_or(|only| only == one.name);
    let mut entrants: Vec<&Entrant> = ENTRANTS.iter().filter(wanted).collect();
    let mut play = |count, scene: &str, add: fn(&mut Sheet, &Entrant)| {
        rounds(count, &format!("stampede  {scene}"), &mut entrants, |one| add(&mut sheet, one));
    };
    let counting = options.rounds.min(COUNTING_ROUNDS);
    play(options.rounds, "hits", add_hits);
    play(options.rounds, "a crowd at a missing key", add_storm);
    play(1, "what a crowd allocates", add_allocations);
    play(counting, "a failing source", add_failure);
    play(counting, "callers in a hurry", add_hurry);
    play(1, "writes during a load, and a panic in one", add_writes);
    for case in [HIT, HIT_ON_ONE] {
        sheet.compare(case, TIME.metric, "quick_cache", Figure::new("time / quick_cache", "ratio"));
        sheet.compare(
            case,
            CPU.metric,
            "quick_cache",
            Figure::new("CPU / quick_cache", "ratio").at_most(0.75),
        );
    }
    sheet.compare(STORM, "CPU", "foyer", Figure::new("CPU / foyer", "ratio").at_most(1.0));
    sheet.finish(&options)
}

fn add_hits(sheet: &mut Sheet, one: &Entrant) {
    if let Some(hits) = one.hits {
        for (case, keys) in [(HIT, HOT_KEYS), (HIT_ON_ONE, 1)] {
            let hits = hits(keys);
            sheet.add(case, one.name, TIME, hits.wall_ns);
            sheet.add(case, one.name, CPU, hits.cpu_ns);
        }
    }
}

fn add_storm(sheet: &mut Sheet, one: &Entrant) {
    let storm = (one.storm)();
    sheet.add(STORM, one.name, LOADS, storm.loads as f64);
    sheet.add(STORM, one.name, Figure::new("CPU", "ms"), storm.cpu.as_secs_f64() * 1e3);
    sheet.add(STORM, one.name, Figure::new("wall", "ms"), storm.wall.as_secs_f64() * 1e3);
}

fn add_allocations(sheet: &mut Sheet, one: &Entrant) {
    let AllocationInfo { count_total, bytes_max, .. } = (one.allocations)();
    let per_caller = count_total as f64 / CROWD as f64;
    sheet.add(STORM, one.name, Figure::new("allocations", "per caller"), per_caller);
    let peak = bytes_max as f64 / CROWD as f64;
    sheet.add(STORM, one.name, Figure::new("peak memory", "bytes per caller"), peak);
}

fn add_failure(sheet: &mut Sheet, one: &Entrant) {
    const { assert!(UNLUCKY == 50) };
    let (failure, case) = ((one.failing)(), "50 at a failing source");
    sheet.add(case, one.name, LOADS, failure.loads as f64);
    sheet.add(case, one.name, Figure::new("last error", "ms"), failure.wall.as_secs_f64() * 1e3);
}

fn add_hurry(sheet: &mut Sheet, one: &Entrant) {
    const { assert!(HURRIED == 10) };
    let (hurry, case) = ((one.hurried)(), "10 with 50 ms for a load of 120");
    sheet.add(case, one.name, LOADS, hurry.loads as f64);
    sheet.add(case, one.name, Figure::higher("served", "callers"), hurry.served as f64);
    sheet.add(case, one.name, Figure::higher("filled afterwards", "of 1"), f64::from(hurry.filled));
}

fn add_writes(sheet: &mut Sheet, one: &Entrant) {
    if let Some(writes) = &one.writes {
        let returned = Figure::new("old value comes back", "of 1");
        sheet.add("a removal during a load", one.name, returned, f64::from((writes.comes_back)()));
        let overwritten = Figure::new("old value overwrites it", "of 1");
        sheet.add("an insert during a load", one.name, overwritten, f64::from((writes.is_overwritten)()));
    }
    let served = Figure::higher("next caller served", "of 1");
    sheet.add("a loader that panics", one.name, served, f64::from((one.panicking)()));
}
