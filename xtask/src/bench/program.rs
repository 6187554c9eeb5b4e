//! Suites that are programs of the benches: they print tables of their own, take options of their own, and
//! leave their rows in a file.

use anyhow::Result;
use cargo_metadata::Metadata;

use super::report::json_of;
use super::rows;
use crate::run::{cargo, run};

/// `memory`: times in rounds of its own, sizes and peaks. `hit-ratio`: hits counted, so one round says it all.
pub(super) const SUITES: [&str; 2] = ["memory", "hit-ratio"];

pub(super) fn is_suite(name: &str) -> bool {
    SUITES.contains(&name)
}

/// Runs the program with `args` and wraps the rows it writes into the report.
pub(super) fn main(metadata: &Metadata, suite: &str, args: &[String]) -> Result<()> {
    let home = metadata.target_directory.join("bench").into_std_path_buf();
    std::fs::create_dir_all(&home)?;
    let file = home.join(suite).with_extension("jsonl");
    let mut command = cargo(&["run", "--package", "benches", "--profile", "bench", "--bin", suite]);
    command.args(["--features", "peers,traces", "--", "--report"]).arg(&file).args(args);
    run(&mut command)?;
    super::write(&home, &json_of(rows::read(&file)?, metadata)?)
}
