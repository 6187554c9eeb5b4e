//! Hit ratios of policies and caches, workload by workload: `cargo xtask bench hit-ratio`.
//!
//! Prints a table and verdicts, and with `--report FILE` writes the same as JSON lines, a row each. `--only
//! TEXT` for workloads that have TEXT in their name.

// A command-line tool talks to the person who runs it.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod row;
use row::Row;
mod summary;
use summary::Summary;

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::process::ExitCode;

use benches::contender;
use benches::trace::{self, Trace};

/// Capacities in percent of the different keys of a workload.
const SIZES: [usize; 3] = [1, 5, 10];

/// Of a longer trace, only so many reads count.
const READS_MAX: usize = 1_000_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse()?;
    let contenders = contender::all();
    let mut summary = Summary::new(&contenders);
    let mut lines = String::new();
    println!("{}", row::heading(&contenders));
    for (group, traces) in workloads()? {
        for trace in traces.iter().filter(|trace| trace.name.contains(&options.only)) {
            for size in SIZES {
                let row = Row::measure(trace, size, &contenders);
                println!("{}", row.text());
                lines += &row.json(&contenders);
                summary.add(group, row);
            }
        }
    }
    print!("\n{}", summary.text());
    match options.report {
        Some(file) => fs::write(file, lines),
        None => Ok(()),
    }
}

struct Options {
    report: Option<PathBuf>,
    only: String,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self { report: None, only: String::new() };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            match (flag.as_str(), args.next()) {
                ("--report", Some(file)) => options.report = Some(file.into()),
                ("--only", Some(text)) => options.only = text,
                _ => {
                    let usage = "usage: hit-ratio [--only TEXT] [--report FILE]";
                    return Err(Error::new(ErrorKind::InvalidInput, usage));
                }
            }
        }
        Ok(options)
    }
}

/// The generated workloads and, if there are any, those in files; shortened.
fn workloads() -> Result<Vec<(&'static str, Vec<Trace>)>> {
    let mut groups = vec![("generated", trace::generated())];
    #[cfg(feature = "traces")]
    if let Some(folder) = trace::folder() {
        groups.push(("real", trace::files(&folder)?));
    }
    for trace in groups.iter_mut().flat_map(|(_, traces)| traces) {
        trace.keys.truncate(READS_MAX);
    }
    Ok(groups)
}
