//! A crate promises a Rust version; nothing it needs may ask for a newer one.

use std::collections::BTreeSet;

use anyhow::Result;
use cargo_metadata::semver::Version;
use cargo_metadata::{DependencyKind, Metadata, NodeDep, Package};

use super::{Findings, feature_table};
use crate::workspace;

pub(super) fn check(metadata: &Metadata) -> Result<Findings> {
    let mut findings = Vec::new();
    for package in workspace::published(metadata) {
        match &package.rust_version {
            None => findings.push(format!("{} has no rust-version", package.name)),
            Some(promised) => {
                let needed = needed(metadata, package);
                findings.extend(needed.iter().filter_map(|dependency| newer(package, promised, dependency)));
                findings.extend(unnamed(metadata, package, promised)?);
            }
        }
    }
    Ok(findings)
}

fn newer(package: &Package, promised: &Version, dependency: &Package) -> Option<String> {
    let asked = dependency.rust_version.as_ref().filter(|asked| *asked > promised)?;
    let (name, dependency) = (&package.name, format!("{} {}", dependency.name, dependency.version));
    Some(format!("{name} promises Rust {promised}, but {dependency} asks for {asked}"))
}

/// Every package that is built into `package`, all features on.
fn needed<'a>(metadata: &'a Metadata, package: &'a Package) -> Vec<&'a Package> {
    let nodes = metadata.resolve.as_ref().map_or(&[][..], |resolve| &resolve.nodes);
    let mut seen = BTreeSet::new();
    let mut next = vec![package];
    let mut needed = Vec::new();
    while let Some(from) = next.pop() {
        let node = nodes.iter().find(|node| node.id == from.id);
        for dependency in node.map_or(&[][..], |node| &node.deps) {
            let to = &metadata[&dependency.pkg];
            if is_needed(metadata, from, to, dependency) && seen.insert(&to.id) {
                needed.push(to);
                next.push(to);
            }
        }
    }
    needed
}

fn is_needed(metadata: &Metadata, from: &Package, to: &Package, dependency: &NodeDep) -> bool {
    let built = dependency.dep_kinds.iter().any(|info| info.kind == DependencyKind::Normal);
    built && !is_optional_sibling(metadata, from, to)
}

/// A crate of ours behind a feature keeps its own promise, which that feature's comment names.
fn is_optional_sibling(metadata: &Metadata, from: &Package, to: &Package) -> bool {
    let optional = from.dependencies.iter().any(|declared| declared.name == *to.name && declared.optional);
    optional && metadata.workspace_members.contains(&to.id)
}

/// The features of `package` that turn on a sibling with a newer promise without saying so.
fn unnamed(metadata: &Metadata, package: &Package, promised: &Version) -> Result<Findings> {
    let comments = feature_table::commented(&std::fs::read_to_string(&package.manifest_path)?)?;
    let mut findings = Vec::new();
    for sibling in metadata.workspace_packages() {
        let Some(newer) = sibling.rust_version.as_ref().filter(|version| *version > promised) else {
            continue;
        };
        let words = format!("Rust {}.{}", newer.major, newer.minor);
        for (feature, comment) in &comments {
            let turns_on = package.features[feature].contains(&format!("dep:{}", sibling.name));
            if turns_on && !comment.contains(&words) {
                findings
                    .push(format!("{}: the comment of feature {feature} must name {words}", package.name));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package<'a>(metadata: &'a Metadata, name: &str) -> &'a Package {
        metadata.packages.iter().find(|package| *package.name == name).unwrap()
    }

    #[test]
    fn a_dependency_that_asks_for_more_is_named_with_both_versions() {
        let metadata = workspace::metadata().unwrap();
        let (core, redis) = (package(&metadata, "cachalot-core"), package(&metadata, "redis"));
        let finding = newer(core, &Version::new(1, 85, 0), redis).unwrap();
        assert!(finding.starts_with("cachalot-core promises Rust 1.85.0, but redis "), "{finding}");
        assert_eq!(newer(core, &Version::new(1, 999, 0), redis), None);
    }

    #[test]
    fn a_feature_that_needs_a_newer_rust_says_so() {
        let metadata = workspace::metadata().unwrap();
        let facade = package(&metadata, "cachalot");
        assert_eq!(unnamed(&metadata, facade, &Version::new(1, 88, 0)).unwrap(), [] as [&str; 0]);
        let ancient = unnamed(&metadata, facade, &Version::new(1, 0, 0)).unwrap();
        assert!(
            ancient.contains(&"cachalot: the comment of feature memory must name Rust 1.88".into()),
            "{ancient:?}"
        );
    }

    #[test]
    fn what_is_needed_goes_deep_but_not_into_tests() {
        let metadata = workspace::metadata().unwrap();
        let names = |of: &str| -> BTreeSet<&str> {
            needed(&metadata, package(&metadata, of)).iter().map(|package| package.name.as_str()).collect()
        };
        assert!(names("cachalot-redis-backend").contains("tokio"));
        assert!(!names("cachalot-core").contains("proptest"));
        assert!(!names("cachalot").contains("redis"), "behind a feature that names its Rust version");
    }
}
