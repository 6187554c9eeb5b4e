//! What the strategies cost: `cargo xtask bench strategies`.
//!
//! Reading through against a bare `get_or_load`; writing through and behind to a SQLite file that syncs every commit;
//! and what each promise of a journal adds to a write. Prints a table; with `--report FILE` writes the same as JSON
//! lines, a row each. `--rounds N`: how often the contenders measure themselves in turn. `--only TEXT`: the scenes
//! with TEXT in their name. Without `--bench` everything is played once and small, as a check.

#![allow(missing_docs, reason = "a program")]

mod journal;
mod reads;
mod sqlite;
mod writers;
mod writes;

use std::time::Duration;
use std::{env, io};

use benches::{Options, Sheet};

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    /// Of reads, each time.
    pub(crate) reads: u32,
    /// How long writers write, each time.
    pub(crate) writing: Duration,
}

type Scene = fn(&Scale, &mut Sheet);

/// The scenes by name.
const SCENES: [(&str, Scene); 3] =
    [("read-through", reads::play), ("writes", writes::play), ("journal", journal::play)];

fn main() -> io::Result<()> {
    let options = Options::parse("strategies", env::args().skip(1))?;
    let scale = if options.bench {
        Scale { rounds: options.rounds, reads: 100_000, writing: Duration::from_millis(500) }
    } else {
        Scale { rounds: 1, reads: 1_000, writing: Duration::from_millis(20) }
    };
    let only = options.only.as_deref().unwrap_or_default();
    let mut sheet = Sheet::new("strategies");
    for (_, play) in SCENES.iter().filter(|(name, _)| name.contains(only)) {
        play(&scale, &mut sheet);
    }
    sheet.finish(&options)
}
