//! `cargo xtask mutants`: deliberate mistakes, and what finds each of them out.

use anyhow::{Result, ensure};

use crate::run::{cargo, stream};
use crate::test::with_cfg;

pub(crate) fn main(args: &[String]) -> Result<()> {
    run(&chosen(args)?)
}

/// The six that stand for all, and are few enough for each change.
pub(crate) const SIX: &str = "six";

fn chosen(args: &[String]) -> Result<String> {
    match args {
        [] => Ok("all".to_owned()),
        [flag] if flag == "--six" => Ok(SIX.to_owned()),
        names => {
            ensure!(names.iter().all(|name| !name.starts_with('-')), "takes --six or names, got {args:?}");
            Ok(names.join(","))
        }
    }
}

/// Prints a table of all mistakes, of the [`SIX`], or of those of these names, separated by commas. One that
/// nothing finds is an error.
pub(crate) fn run(which: &str) -> Result<()> {
    let mut command = cargo(&["test", "--quiet", "--package", "integration-tests", "--test", "it"]);
    command.args(["mutant_is_found_out", "--", "--nocapture"]);
    command.env("CACHALOT_MUTANTS", which);
    with_cfg(&mut command, "mutants")?;
    let mut ran = false;
    let status = stream(&mut command, |line| ran |= line.starts_with("mutant "))?;
    ensure!(ran, "no mutant was tried");
    ensure!(status.success(), "a mutant was not found out");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_six_or_those_that_are_named() {
        let chosen = |args: &[&str]| chosen(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        assert_eq!(chosen(&[]).unwrap(), "all");
        assert_eq!(chosen(&["--six"]).unwrap(), SIX);
        assert_eq!(chosen(&["CountsTokens", "Unfenced"]).unwrap(), "CountsTokens,Unfenced");
        assert!(chosen(&["--seven"]).is_err());
        assert!(chosen(&["--six", "CountsTokens"]).is_err());
    }
}
