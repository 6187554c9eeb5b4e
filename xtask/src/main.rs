//! The project's own commands: `cargo xtask <command>`. This file only dispatches.

// A command-line tool talks to the person who runs it.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod bench;
mod ci;
mod demo;
mod features;
mod run;
mod servers;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <command>

  test [--install-servers]   every test, against real servers; installs the missing ones if asked
  demo [--redis] [--serve]   the demo: a shop's service over SQLite, cached
  bench [suite] [--rounds N] [--baseline NAME]
                             benchmarks in interleaved rounds; report in target/bench/report.json
  tidy [--fix]               the project's own rules: layers, effects, feature table, small builds, files
  features [--write-table]   each feature of each published crate alone; or rewrite the facade's feature table
  ci                         all of it, as the continuous integration runs it
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((command, args)) = args.split_first() else {
        print!("{USAGE}");
        return Ok(());
    };
    match command.as_str() {
        "test" => test::main(args),
        "demo" => demo::main(args),
        "bench" => bench::main(args),
        "tidy" => tidy::main(args),
        "features" => features::main(args),
        "ci" => ci::main(args),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("no command {other:?}; `cargo xtask help` lists them"),
    }
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
