//! `cargo xtask tidy`: the project's own rules, each a check that says what is wrong and where.

mod effects;
pub(crate) mod feature_table;
mod files;
mod layers;
mod msrv;
mod small;

use anyhow::{Result, bail};

use crate::{only_flag, workspace};

/// What a check found; empty when all is well.
type Findings = Vec<String>;

pub(crate) fn main(args: &[String]) -> Result<()> {
    if only_flag(args, "--fix")? {
        feature_table::write()?;
    }
    check_all()
}

pub(crate) fn check_all() -> Result<()> {
    let metadata = workspace::metadata()?;
    let checks: [(&str, Result<Findings>); 6] = [
        ("layers", Ok(layers::check(&metadata))),
        ("effects", effects::check()),
        ("feature table", feature_table::check()),
        ("small builds", small::check()),
        ("rust-version", msrv::check(&metadata)),
        ("files", files::check(&metadata)),
    ];
    let found: usize = checks.into_iter().map(|(name, outcome)| report(name, outcome)).sum();
    if found > 0 {
        bail!("tidy: {found} findings");
    }
    Ok(())
}

/// Prints what a check found and returns how much that is. A check that cannot run is a finding.
fn report(name: &str, outcome: Result<Findings>) -> usize {
    let findings = outcome.unwrap_or_else(|error| vec![format!("{error:#}")]);
    println!("tidy: {name}: {}", if findings.is_empty() { "ok" } else { "NOT ok" });
    for finding in &findings {
        println!("  {finding}");
    }
    findings.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_cannot_run_is_a_finding() {
        assert_eq!(report("some check", Err(anyhow::anyhow!("no such file"))), 1);
        assert_eq!(report("some check", Ok(Vec::new())), 0);
    }
}
