//! The files a reader expects, a changelog heading per crate, and no path of one machine.

use std::path::Path;

use anyhow::Result;
use cargo_metadata::Metadata;

use super::Findings;
use crate::workspace;

const REQUIRED: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];

/// What only makes sense on one machine. Spelled so that this file does not hold it.
const MACHINE_PATHS: [&str; 5] = [
    concat!("../", "shared"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
];

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 2] = [".git", "target"];

pub(super) fn check(metadata: &Metadata) -> Result<Findings> {
    let root = workspace::root();
    let mut findings: Findings = REQUIRED
        .iter()
        .filter(|file| !root.join(file).is_file())
        .map(|file| format!("{file} is missing"))
        .collect();
    let changelog = std::fs::read_to_string(root.join("CHANGELOG.md")).unwrap_or_default();
    let crates: Vec<&str> =
        workspace::published(metadata).iter().map(|package| package.name.as_str()).collect();
    findings.extend(without_heading(&changelog, &crates));
    machine_paths_below(&root, &root, &mut findings)?;
    Ok(findings)
}

fn without_heading(changelog: &str, crates: &[&str]) -> Findings {
    let headings: Vec<&str> = changelog.lines().filter(|line| line.starts_with('#')).collect();
    let has = |name: &str| {
        let words = |heading: &&str| heading.split([' ', '`', '*', '[', ']', ':']).any(|word| word == name);
        headings.iter().any(words)
    };
    crates
        .iter()
        .filter(|name| !has(name))
        .map(|name| format!("CHANGELOG.md has no heading for {name}"))
        .collect()
}

fn machine_paths_below(root: &Path, folder: &Path, findings: &mut Findings) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let skipped = path.file_name().is_some_and(|name| SKIPPED.iter().any(|skipped| name == *skipped));
            if !skipped {
                machine_paths_below(root, &path, findings)?;
            }
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let name = path.strip_prefix(root)?.display().to_string();
            findings
                .extend(machine_paths(&text).map(|(line, found)| format!("{name}:{line}: holds {found}")));
        }
    }
    Ok(())
}

/// Line numbers and what was found in them.
fn machine_paths(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        MACHINE_PATHS.into_iter().find(|path| line.contains(path)).map(|path| (number, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found_with_its_line() {
        let text = format!("fine\nsee {}/notes\n", MACHINE_PATHS[0]);
        assert_eq!(machine_paths(&text).collect::<Vec<_>>(), [(2, MACHINE_PATHS[0])]);
    }

    #[test]
    fn system_folders_are_no_path_of_one_machine() {
        assert_eq!(machine_paths("/usr/bin/env and /tmp and https://example.org/x").count(), 0);
    }

    #[test]
    fn a_crate_needs_a_heading_with_its_whole_name() {
        let changelog = "# Changelog\n## Unreleased\n### cachalot-core\ncachalot is in the text only\n";
        let missing = without_heading(changelog, &["cachalot", "cachalot-core"]);
        assert_eq!(missing, ["CHANGELOG.md has no heading for cachalot"]);
    }
}
