//! The memory engine beside its peers: `cargo xtask bench memory`.
//!
//! Contenders of a workload are measured in short rounds, one after the other, so that each round shares its
//! weather; the median of the ratios of the rounds is what counts. Where a process itself is measured
//! (resident bytes, inserts after ten million expiries), each contender gets a process of its own.
//!
//! `--rounds N` for more or fewer rounds, `--only TEXT` for what has TEXT in its name (`hits`, `Zipf`,
//! `String`, `hot key`, `bytes`, `storm`, `expiry`), `--report FILE` for JSON lines.

// A command-line tool talks to the person who runs it.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod subject;
use subject::{Data, Key, Kind, Subject, Visitor, for_each};
mod floor;
mod ours;
#[cfg(feature = "peers")]
mod peers;

mod workload;
use workload::{GetOrFill, Hits, HotKey, Mixed, Workload};
mod zipf;

mod cell;
use cell::{Cell, measure};
mod clocks;

mod child;
mod expiry;
mod size;
mod storm;

mod report;
use report::Report;
mod targets;

mod suite;
use suite::Options;

use std::io::{Error, ErrorKind, Result};
use std::process::ExitCode;

use benches::Spread;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("--child", task)) = args.split_first().map(|(first, task)| (first.as_str(), task)) {
        suite::child(task);
        return ExitCode::SUCCESS;
    }
    match options(&args).and_then(|options| suite::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Enough for a middle half that says something, few enough for ten minutes in all.
const ROUNDS: usize = 15;

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options { rounds: ROUNDS, only: String::new(), report: None };
    for pair in args.chunks(2) {
        match pair {
            [flag, value] if flag == "--rounds" => {
                options.rounds = value.parse().map_err(|_| usage())?;
            }
            [flag, value] if flag == "--only" => options.only.clone_from(value),
            [flag, value] if flag == "--report" => options.report = Some(value.into()),
            _ => return Err(usage()),
        }
    }
    if options.rounds == 0 { Err(usage()) } else { Ok(options) }
}

fn usage() -> Error {
    Error::new(ErrorKind::InvalidInput, "usage: memory [--rounds N] [--only TEXT] [--report FILE]")
}
