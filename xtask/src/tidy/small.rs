//! The memory feature alone stays small: few crates, no runtime, no serialisation, no client.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Findings;
use crate::run::{cargo, read};

const CRATES_MAX: usize = 15;
const KEPT_OUT: [&str; 3] = ["redis", "serde", "tokio"];

pub(super) fn check() -> Result<Findings> {
    let mut tree = cargo(&["tree", "--package", "cachalot", "--no-default-features", "--features", "memory"]);
    let tree = read(tree.args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]))?;
    Ok(findings(&foreign(&tree)))
}

/// The crates of a `cargo tree` without ours: name and version.
fn foreign(tree: &str) -> BTreeSet<&str> {
    tree.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("cachalot"))
        .map(name_and_version)
        .collect()
}

/// Cuts off what cargo says behind them: a path, `(proc-macro)`, `(*)`.
fn name_and_version(line: &str) -> &str {
    line.match_indices(' ').nth(1).map_or(line, |(end, _)| &line[..end])
}

fn findings(foreign: &BTreeSet<&str>) -> Findings {
    let mut findings = Vec::new();
    if foreign.len() > CRATES_MAX {
        findings.push(format!(
            "memory alone pulls in {} crates, at most {CRATES_MAX}: {foreign:?}",
            foreign.len()
        ));
    }
    let names = foreign.iter().filter_map(|krate| krate.split(' ').next());
    findings.extend(
        names.filter(|name| KEPT_OUT.contains(name)).map(|name| format!("memory alone pulls in {name}")),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_crates_and_repetitions_do_not_count() {
        let tree = "cachalot v0.1.0 (/somewhere)\ncachalot-core v0.1.0 (/somewhere)\nahash v0.8.12\nahash v0.8.12 (*)\n";
        assert_eq!(foreign(tree), BTreeSet::from(["ahash v0.8.12"]));
    }

    #[test]
    fn two_versions_are_two_crates() {
        assert_eq!(foreign("syn v2.0.1 (proc-macro)\nsyn v3.0.0\n").len(), 2);
    }

    #[test]
    fn a_runtime_is_found_by_its_exact_name() {
        assert_eq!(
            findings(&BTreeSet::from(["tokio v1.0.0", "serde_core v1.0.0"])),
            ["memory alone pulls in tokio"]
        );
    }

    #[test]
    fn one_crate_too_many_is_found() {
        let many: Vec<String> = (0..=CRATES_MAX).map(|n| format!("crate{n} v1.0.0")).collect();
        let all: BTreeSet<&str> = many.iter().map(String::as_str).collect();
        assert!(findings(&all)[0].starts_with("memory alone pulls in 16 crates"));
    }
}
