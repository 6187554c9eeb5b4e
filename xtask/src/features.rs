//! `cargo xtask features`: each feature of each published crate compiles alone.

use anyhow::Result;
use cargo_metadata::Package;

use crate::run::{cargo, run};
use crate::tidy::feature_table;
use crate::{only_flag, workspace};

pub(crate) fn main(args: &[String]) -> Result<()> {
    if only_flag(args, "--write-table")? { feature_table::write() } else { check_each() }
}

pub(crate) fn check_each() -> Result<()> {
    let metadata = workspace::metadata()?;
    for package in workspace::published(&metadata) {
        for features in selections(package) {
            let selected: Vec<&str> = features.iter().map(String::as_str).collect();
            run(cargo(&["check", "--quiet", "--package", &package.name]).args(selected))?;
        }
    }
    Ok(())
}

/// The arguments for none of a crate's features, each of them alone, and all of them.
fn selections(package: &Package) -> Vec<Vec<String>> {
    let none = vec!["--no-default-features".to_owned()];
    let mut selections = vec![none.clone()];
    if package.features.is_empty() {
        return selections;
    }
    for feature in package.features.keys() {
        let mut alone = none.clone();
        alone.extend(["--features".to_owned(), feature.clone()]);
        selections.push(alone);
    }
    selections.push(vec!["--all-features".to_owned()]);
    selections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_each_and_all_features_are_selected() {
        let metadata = workspace::metadata().unwrap();
        let core = workspace::published(&metadata).into_iter().find(|p| *p.name == "cachalot-core").unwrap();
        let selections = selections(core);
        assert_eq!(selections.len(), core.features.len() + 2);
        assert_eq!(selections[0], ["--no-default-features"]);
        assert!(selections.contains(&vec![
            "--no-default-features".into(),
            "--features".into(),
            "bytes".into()
        ]));
        assert_eq!(selections.last().unwrap(), &["--all-features"]);
    }
}
