//! `cargo xtask mutants`: deliberate mistakes, and what finds each of them out.

use anyhow::{Result, ensure};

use crate::only_flag;
use crate::run::{cargo, stream};
use crate::test::with_cfg;

pub(crate) fn main(args: &[String]) -> Result<()> {
    run(only_flag(args, "--six")?)
}

/// Prints a table of all mistakes, or of the six that stand for them. One that nothing finds is an error.
pub(crate) fn run(only_six: bool) -> Result<()> {
    let mut command = cargo(&["test", "--quiet", "--package", "integration-tests", "--test", "it"]);
    command.args(["mutant_is_found_out", "--", "--nocapture"]);
    command.env("CACHALOT_MUTANTS", if only_six { "six" } else { "all" });
    with_cfg(&mut command, "mutants")?;
    let mut ran = false;
    let status = stream(&mut command, |line| ran |= line.starts_with("mutant "))?;
    ensure!(ran, "no mutant was tried");
    ensure!(status.success(), "a mutant was not found out");
    Ok(())
}
