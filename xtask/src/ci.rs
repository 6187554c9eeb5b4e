//! `cargo xtask ci`: what must hold before a change lands, and the minutes of each step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::run::{cargo, run};
use crate::test::{self, Counts};
use crate::{Ended, features, mutants, no_arguments, tidy};

pub(crate) fn main(args: &[String]) -> Ended {
    let mut ci = Ci::default();
    let done = no_arguments(args).and_then(|()| ci.steps());
    ci.print_minutes();
    Ended { done, counts: ci.counts }
}

#[derive(Default)]
struct Ci {
    minutes: Vec<(&'static str, Duration)>,
    counts: Option<Counts>,
}

impl Ci {
    fn steps(&mut self) -> Result<()> {
        self.step("fmt", |_| run(&mut cargo(&["fmt", "--all", "--check"])))?;
        self.step("tidy", |_| tidy::check_all())?;
        self.step("clippy", |_| clippy())?;
        self.step("test", Self::test)?;
        self.step("mutants", |_| mutants::run(mutants::SIX))?;
        self.step("docs", |_| docs())?;
        self.step("features", |_| features::check_each())?;
        self.step("deny", |_| deny())?;
        self.step("benches", |_| benches())
    }

    fn step(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        eprintln!("== {name}");
        let start = Instant::now();
        let done = work(self);
        self.minutes.push((name, start.elapsed()));
        done.with_context(|| format!("step {name}"))
    }

    fn test(&mut self) -> Result<()> {
        // The test command of the README, in this process.
        let counts = test::run_all(true)?;
        self.counts = Some(counts);
        test::passed(counts)
    }

    fn print_minutes(&self) {
        println!("\nstep      minutes");
        for (name, took) in &self.minutes {
            println!("{name:<9} {:>7.1}", took.as_secs_f64() / 60.0);
        }
    }
}

/// Every target and feature but the benches' `peers`, which `benches` leaves out too.
fn clippy() -> Result<()> {
    let everything = ["--workspace", "--exclude", "benches", "--all-features", "--all-targets"];
    run(cargo(&["clippy"]).args(everything).args(["--", "-D", "warnings"]))?;
    run(&mut cargo(&["clippy", "--package", "benches", "--all-targets", "--", "-D", "warnings"]))
}

fn docs() -> Result<()> {
    let everything = ["--workspace", "--exclude", "benches", "--all-features", "--no-deps"];
    run(cargo(&["doc"]).args(everything).env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny() -> Result<()> {
    let installed = cargo(&["deny", "--version"]).output()?.status.success();
    if !installed {
        run(&mut cargo(&["install", "cargo-deny", "--locked", "--version", "^0.20"]))?;
    }
    run(&mut cargo(&["deny", "--workspace", "check", "licenses", "bans", "sources"]))
}

fn benches() -> Result<()> {
    run(&mut cargo(&["check", "--package", "benches", "--benches"]))
}
