//! Many servers: `cargo xtask bench fleet`.
//!
//! Many keys at once over eight Redis servers against one; what callers feel of a server's death and return; gets from
//! a memcached against other clients. Prints a table; with `--report FILE` writes the same as JSON lines, a row each.
//! `--rounds N`: how often the contenders measure themselves in turn. `--only TEXT`: the scenes with TEXT in their name.
//! Without `--bench` everything is played once and small, as a check.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::expect_used, reason = "a benchmark whose servers fail has nothing to say")]

mod fixture;
mod many;
mod memcached;
#[cfg(feature = "peers")]
mod peers;
mod recovery;

use std::{env, io};

use benches::{Options, Sheet};

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    /// Keys of one call.
    pub(crate) keys: u64,
    /// Calls of one measurement.
    pub(crate) calls: u32,
    /// Gets of one measurement, each by one caller.
    pub(crate) gets: u32,
    /// Deaths of a server.
    pub(crate) deaths: usize,
}

type Scene = fn(&Scale, &mut Sheet);

/// The scenes by name.
const SCENES: [(&str, Scene); 3] =
    [("many", many::play), ("recovery", recovery::play), ("memcached", memcached::play)];

fn main() -> io::Result<()> {
    let options = Options::parse("fleet", env::args().skip(1))?;
    let scale = if options.bench {
        Scale { rounds: options.rounds, keys: 10_000, calls: 20, gets: 20_000, deaths: 3 }
    } else {
        Scale { rounds: 1, keys: 200, calls: 1, gets: 20, deaths: 1 }
    };
    let only = options.only.as_deref().unwrap_or_default();
    let mut sheet = Sheet::new("fleet");
    for (_, play) in SCENES.iter().filter(|(name, _)| name.contains(only)) {
        play(&scale, &mut sheet);
    }
    sheet.finish(&options)
}
