//! What an invalidation costs, and how soon the others know of it: `cargo xtask bench invalidation`.
//!
//! Over redis-servers of its own. Prints a table; with `--report FILE` writes the same as JSON lines, a row each.
//! `--rounds N`: how often the contenders measure themselves in turn; scenes that last for seconds take a third
//! of them. `--only TEXT`: the scenes with TEXT in their name. Without `--bench` everything is played once and
//! small, as a check.

#![allow(missing_docs, reason = "a program")]

mod fixture;
mod fleet;
mod hits;
mod proxy;
mod sweep;
mod tags;

use std::{env, io};

use benches::{Options, Sheet};

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Keys that the shared tier holds, and how many of them a pattern removes.
    pub(crate) keys: usize,
    pub(crate) matching: usize,
    /// How many have a tag.
    pub(crate) members: [usize; 3],
    /// How many processes hear of an invalidation, and of how many.
    pub(crate) fleets: &'static [usize],
    pub(crate) removals: usize,
    /// Of scenes that take milliseconds, and of those that take seconds.
    pub(crate) rounds: usize,
    pub(crate) long_rounds: usize,
}

impl Scale {
    fn full(rounds: usize) -> Self {
        Self {
            keys: 1_000_000,
            matching: 100_000,
            members: [10, 10_000, 1_000_000],
            fleets: &[2, 8, 32],
            removals: 200,
            rounds,
            long_rounds: rounds.div_ceil(3),
        }
    }

    const CHECK: Self = Self {
        keys: 2_000,
        matching: 200,
        members: [10, 100, 2_000],
        fleets: &[2],
        removals: 20,
        rounds: 1,
        long_rounds: 1,
    };
}

type Scene = fn(&Scale, &mut Sheet);

/// The scenes by name, quick ones first.
const SCENES: [(&str, Scene); 4] =
    [("hit", hits::play), ("propagation", fleet::play), ("remove_tag", tags::play), ("pattern", sweep::play)];

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [first, url, removals] = args.as_slice()
        && first == "--listen"
    {
        fleet::listen(url, removals);
        return Ok(());
    }
    let options = Options::parse("invalidation", args)?;
    let scale = if options.bench { Scale::full(options.rounds) } else { Scale::CHECK };
    let only = options.only.as_deref().unwrap_or_default();
    let mut sheet = Sheet::new("invalidation");
    for (name, play) in SCENES.iter().filter(|(name, _)| name.contains(only)) {
        eprintln!("invalidation  {name}");
        play(&scale, &mut sheet);
    }
    sheet.finish(&options)
}
