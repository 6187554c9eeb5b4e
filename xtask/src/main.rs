//! The project's own commands: `cargo xtask <command>`. This file only dispatches.

// A command-line tool talks to the person who runs it.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod bench;
mod ci;
mod demo;
mod features;
mod mutants;
mod nightly;
mod run;
mod servers;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};

use test::Counts;

const USAGE: &str = "\
cargo xtask <command>

  test [--install-servers]   every test, against real servers; installs the missing ones if asked
  demo [--redis] [--serve]   the demo: a shop's service over SQLite, cached
  bench [suite] [--rounds N] [--baseline NAME]
                             benchmarks in interleaved rounds; report in target/bench/report.json
  bench memory [--rounds N] [--only TEXT]
                             the memory engine beside its peers: times, bytes, bounds, expiry
  bench stampede [--rounds N]
                             a crowd at a missing key, a failing source, callers in a hurry, and hits
  bench invalidation [--rounds N] [--only TEXT]
                             removing by tag and by pattern, how soon other processes know, hits with tags
  bench hit-ratio [--only TEXT]
                             hit ratios on generated workloads and the traces under CACHALOT_TRACES
  tidy [--fix]               the project's own rules: layers, effects, feature table, small builds, files
  features [--write-table]   each feature of each published crate alone; or rewrite the facade's feature table
  nightly [--minutes N]      the memory engine under the address sanitizer, the fuzz targets for N minutes
                             each (1 unless told), 100,000 simulated worlds
  mutants [--six | NAMES]    deliberate mistakes, and what finds each of them out first; or six of them; or
                             all that finds those of these names out, in how many worlds
  ci                         all of it, as the continuous integration runs it
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Ended { done, counts } = dispatch(&args);
    if let Err(error) = &done {
        eprintln!("error: {error:#}");
    }
    // The last line, whatever happened: people and machines look for it there.
    if let Some(counts) = counts {
        println!("{counts}");
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How a command ended, and the tests it ran if any.
struct Ended {
    done: Result<()>,
    counts: Option<Counts>,
}

impl From<Result<()>> for Ended {
    fn from(done: Result<()>) -> Self {
        Self { done, counts: None }
    }
}

fn dispatch(args: &[String]) -> Ended {
    let Some((command, args)) = args.split_first() else {
        return usage().into();
    };
    match command.as_str() {
        "test" => test::main(args),
        "demo" => demo::main(args).into(),
        "bench" => bench::main(args).into(),
        "tidy" => tidy::main(args).into(),
        "features" => features::main(args).into(),
        "mutants" => mutants::main(args).into(),
        "nightly" => nightly::main(args),
        "ci" => ci::main(args),
        "help" | "--help" | "-h" => usage().into(),
        other => Err(anyhow!("no command {other:?}; `cargo xtask help` lists them")).into(),
    }
}

fn usage() -> Result<()> {
    print!("{USAGE}");
    Ok(())
}

/// Reads a command's only flag: whether it was given. Anything else is an error.
fn only_flag(args: &[String], flag: &str) -> Result<bool> {
    match args {
        [] => Ok(false),
        [one] if one == flag => Ok(true),
        _ => bail!("takes only {flag}, got {args:?}"),
    }
}

/// Refuses arguments for a command that has none.
fn no_arguments(args: &[String]) -> Result<()> {
    match args {
        [] => Ok(()),
        _ => bail!("takes no arguments, got {args:?}"),
    }
}
