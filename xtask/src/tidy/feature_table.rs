//! The facade's feature table in its crate docs, generated from the comments in its Cargo.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Findings;
use crate::workspace;

const BEGIN: &str = "<!-- features:begin -->";
const END: &str = "<!-- features:end -->";

/// A feature's name and the comment above it.
pub(super) type Feature = (String, String);

pub(super) fn check() -> Result<Findings> {
    let (docs, table) = (std::fs::read_to_string(docs_file())?, expected()?);
    let current = replaced(&docs, &table)?;
    let mut findings = Vec::new();
    if current != docs {
        findings.push(
            "crates/cachalot/src/lib.rs: the feature table is old: `cargo xtask features --write-table`"
                .into(),
        );
    }
    Ok(findings)
}

/// Writes the table into the facade's docs.
pub(crate) fn write() -> Result<()> {
    let docs = std::fs::read_to_string(docs_file())?;
    std::fs::write(docs_file(), replaced(&docs, &expected()?)?)?;
    Ok(())
}

fn docs_file() -> PathBuf {
    workspace::root().join("crates/cachalot/src/lib.rs")
}

fn expected() -> Result<String> {
    let manifest = std::fs::read_to_string(workspace::root().join("crates/cachalot/Cargo.toml"))?;
    let metadata = workspace::metadata()?;
    let facade = metadata.packages.iter().find(|package| *package.name == "cachalot");
    let features = &facade.context("the facade is missing")?.features;
    Ok(table(&commented(&manifest)?, &on_by_default(features)))
}

/// The features of a manifest in its order, each with its comment.
pub(super) fn commented(manifest: &str) -> Result<Vec<Feature>> {
    let section = manifest.lines().skip_while(|line| *line != "[features]").skip(1);
    let mut comment: Vec<&str> = Vec::new();
    let mut features = Vec::new();
    for line in section.take_while(|line| !line.starts_with('[')) {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| !name.starts_with(' ')) {
            let text = std::mem::take(&mut comment).join(" ");
            if name != "default" {
                anyhow::ensure!(!text.is_empty(), "feature {name} has no comment above it");
                features.push((name.to_owned(), text));
            }
        }
    }
    Ok(features)
}

/// Every feature that `default` turns on, directly or through another.
fn on_by_default(features: &BTreeMap<String, Vec<String>>) -> BTreeSet<&str> {
    let mut on = BTreeSet::new();
    let mut next = vec!["default"];
    while let Some(name) = next.pop() {
        for turned_on in features.get(name).into_iter().flatten() {
            if features.contains_key(turned_on) && on.insert(turned_on.as_str()) {
                next.push(turned_on);
            }
        }
    }
    on
}

fn table(features: &[Feature], on_by_default: &BTreeSet<&str>) -> String {
    let mut table = String::from("//! | feature | default | what it adds |\n//! |---|---|---|\n");
    for (name, comment) in features {
        let default = if on_by_default.contains(name.as_str()) { "yes" } else { "" };
        table.push_str(&format!("//! | `{name}` | {default} | {comment} |\n"));
    }
    table
}

/// The docs with the table between its markers.
fn replaced(docs: &str, table: &str) -> Result<String> {
    let missing = || format!("crates/cachalot/src/lib.rs lacks `//! {BEGIN}` or `//! {END}`");
    let (before, rest) = docs.split_once(&format!("//! {BEGIN}\n")).with_context(missing)?;
    let (_, after) = rest.split_once(&format!("//! {END}\n")).with_context(missing)?;
    Ok(format!("{before}//! {BEGIN}\n{table}//! {END}\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
[package]
name = \"x\"
[features]
default = [\"cache\"]
# The map alone:
# no runtime.
memory = []
# `Cache`.
cache = [
    \"memory\",
]
[dependencies]
# Not a feature.
tokio = \"1\"
";

    #[test]
    fn comments_become_the_text_of_their_feature() {
        let expected = [("memory", "The map alone: no runtime."), ("cache", "`Cache`.")];
        assert_eq!(commented(MANIFEST).unwrap(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_feature_without_a_comment_is_an_error() {
        let error = commented("[features]\nbare = []\n").unwrap_err();
        assert_eq!(error.to_string(), "feature bare has no comment above it");
    }

    #[test]
    fn a_default_feature_turns_others_on() {
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let features = BTreeMap::from([
            ("default".to_owned(), list(&["cache"])),
            ("cache".to_owned(), list(&["memory", "dep:tokio"])),
            ("memory".to_owned(), list(&[])),
            ("redis".to_owned(), list(&["cache"])),
        ]);
        assert_eq!(on_by_default(&features), BTreeSet::from(["cache", "memory"]));
    }

    #[test]
    fn the_table_replaces_what_is_between_the_markers() {
        let table = table(&[("memory".into(), "The map.".into())], &BTreeSet::from(["memory"]));
        let docs = format!("//! Docs.\n//! {BEGIN}\n//! old\n//! {END}\nmod x;\n");
        let expected = format!(
            "//! Docs.\n//! {BEGIN}\n//! | feature | default | what it adds |\n//! |---|---|---|\n//! | `memory` | yes | The map. |\n//! {END}\nmod x;\n"
        );
        assert_eq!(replaced(&docs, &table).unwrap(), expected);
        assert_eq!(replaced(&expected, &table).unwrap(), expected);
    }

    #[test]
    fn docs_without_markers_are_an_error() {
        assert!(replaced("//! Docs.\n", "").unwrap_err().to_string().contains(BEGIN));
    }
}
