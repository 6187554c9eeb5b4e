//! Who may depend on whom: the drawing in ARCHITECTURE.md, held against `cargo metadata`.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

use super::Findings;

const CORE: &str = "cachalot-core";
const FACADE: &str = "cachalot";
const TESTKIT: &str = "cachalot-testkit";

/// Crates that nobody builds upon: they may depend on anything of ours.
const OUTSIDE: [&str; 5] = ["benches", "integration-tests", "sqlx-source", "storefront", "xtask"];

/// What cachalot-core may never pull in, directly or through others.
const KEPT_OUT_OF_CORE: [&str; 2] = ["redis", "tokio"];

/// What a crate of ours may depend on, and what its tests may use besides.
struct Row {
    name: &'static str,
    normal: &'static [&'static str],
    dev: &'static [&'static str],
}

const DRAWING: [Row; 10] = [
    // The testkit's types come from core; its tests would link two copies of them.
    Row { name: CORE, normal: &[], dev: &[] },
    Row { name: "cachalot-memory-backend", normal: &[CORE], dev: &[TESTKIT] },
    Row { name: "cachalot-redis-backend", normal: &[CORE], dev: &[TESTKIT] },
    Row { name: "cachalot-memcached-backend", normal: &[CORE], dev: &[TESTKIT] },
    Row { name: "cachalot-ring", normal: &[CORE], dev: &[TESTKIT] },
    Row { name: "cachalot-stampede", normal: &[CORE], dev: &[TESTKIT] },
    Row { name: "cachalot-invalidation", normal: &[CORE], dev: &[TESTKIT] },
    Row {
        name: "cachalot-strategies",
        normal: &[CORE, "cachalot-stampede", "cachalot-invalidation"],
        dev: &[TESTKIT, "cachalot-memory-backend"],
    },
    Row { name: TESTKIT, normal: &[CORE], dev: &[] },
    Row {
        name: FACADE,
        normal: &[
            CORE,
            "cachalot-memory-backend",
            "cachalot-redis-backend",
            "cachalot-memcached-backend",
            "cachalot-ring",
            "cachalot-stampede",
            "cachalot-invalidation",
            "cachalot-strategies",
        ],
        dev: &[TESTKIT],
    },
];

pub(super) fn check(metadata: &Metadata) -> Findings {
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings: Findings =
        arrows(&packages, &ours).iter().filter_map(|arrow| arrow.refusal()).collect();
    findings.extend(packages.iter().filter_map(|package| undrawn(&package.name)));
    findings.extend(kept_out_of_core(metadata));
    findings
}

/// One crate of ours that depends on another.
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    dev: bool,
}

fn arrows<'a>(packages: &[&'a Package], ours: &BTreeSet<&str>) -> Vec<Arrow<'a>> {
    let of = |package: &'a Package| {
        package.dependencies.iter().map(|dependency| Arrow {
            from: &package.name,
            to: &dependency.name,
            dev: dependency.kind == DependencyKind::Development,
        })
    };
    packages.iter().flat_map(|package| of(package)).filter(|arrow| ours.contains(arrow.to)).collect()
}

impl Arrow<'_> {
    fn refusal(&self) -> Option<String> {
        let row = DRAWING.iter().find(|row| row.name == self.from)?;
        let allowed = row.normal.contains(&self.to) || (self.dev && row.dev.contains(&self.to));
        let kind = if self.dev { "in its tests" } else { "" };
        (!allowed).then(|| format!("{} may not depend on {} {kind}", self.from, self.to).trim_end().into())
    }
}

/// A new crate starts with a row in the drawing.
fn undrawn(name: &str) -> Option<String> {
    let known = OUTSIDE.contains(&name) || DRAWING.iter().any(|row| row.name == name);
    (!known).then(|| format!("{name} is not in the drawing (xtask/src/tidy/layers.rs)"))
}

fn kept_out_of_core(metadata: &Metadata) -> Findings {
    let core = metadata.packages.iter().find(|package| *package.name == CORE);
    let reached = core.map(|core| reached(metadata, &core.id)).unwrap_or_default();
    let banned = |id: &&PackageId| KEPT_OUT_OF_CORE.contains(&metadata[id].name.as_str());
    reached.into_iter().filter(banned).map(|id| format!("{CORE} pulls in {}", metadata[id].name)).collect()
}

/// Every package that `from` needs to be built, all features on; not what its tests need.
fn reached<'a>(metadata: &'a Metadata, from: &'a PackageId) -> BTreeSet<&'a PackageId> {
    let nodes = metadata.resolve.as_ref().map_or(&[][..], |resolve| &resolve.nodes);
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(id) = next.pop() {
        let node = nodes.iter().find(|node| node.id == *id);
        for dependency in node.map_or(&[][..], |node| &node.deps) {
            let built = dependency.dep_kinds.iter().any(|info| info.kind != DependencyKind::Development);
            if built && reached.insert(&dependency.pkg) {
                next.push(&dependency.pkg);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn arrow<'a>(from: &'a str, to: &'a str, dev: bool) -> Arrow<'a> {
        Arrow { from, to, dev }
    }

    #[test]
    fn an_arrow_of_the_drawing_is_allowed() {
        assert_eq!(arrow("cachalot-strategies", "cachalot-stampede", false).refusal(), None);
        assert_eq!(arrow("cachalot-ring", TESTKIT, true).refusal(), None);
    }

    #[test]
    fn a_sibling_is_refused() {
        let refusal = arrow("cachalot-ring", "cachalot-stampede", false).refusal();
        assert_eq!(refusal.unwrap(), "cachalot-ring may not depend on cachalot-stampede");
    }

    #[test]
    fn the_testkit_is_for_tests_only() {
        assert!(arrow("cachalot-ring", TESTKIT, false).refusal().is_some());
        assert!(arrow(CORE, TESTKIT, true).refusal().is_some());
    }

    #[test]
    fn a_crate_outside_the_drawing_is_named() {
        assert!(undrawn("cachalot-new").unwrap().contains("cachalot-new"));
        assert_eq!(undrawn("storefront"), None);
    }

    #[test]
    fn what_redis_reaches_holds_tokio_and_what_core_reaches_does_not() {
        let metadata = workspace::metadata().unwrap();
        let names = |of: &str| -> BTreeSet<&str> {
            let package = metadata.packages.iter().find(|package| *package.name == of).unwrap();
            reached(&metadata, &package.id).into_iter().map(|id| metadata[id].name.as_str()).collect()
        };
        assert!(names("cachalot-redis-backend").contains("tokio"));
        let core = names(CORE);
        assert!(core.contains("serde") && !core.contains("tokio") && !core.contains("proptest"), "{core:?}");
    }
}
