//! `cargo xtask bench hit-ratio`: counts hits instead of time, so one round says it all.

use anyhow::Result;
use cargo_metadata::Metadata;

use super::report::json_of;
use super::rows;
use crate::run::{cargo, run};

pub(super) const SUITE: &str = "hit-ratio";

/// Runs the program that prints the table, and wraps the rows it writes into the report.
pub(super) fn main(metadata: &Metadata) -> Result<()> {
    let home = metadata.target_directory.join("bench").into_std_path_buf();
    std::fs::create_dir_all(&home)?;
    let file = home.join("hit-ratio.jsonl");
    let mut command = cargo(&["run", "--package", "benches", "--release", "--bin", SUITE]);
    command.args(["--features", "peers,traces", "--", "--report"]).arg(&file);
    run(&mut command)?;
    super::write(&home, &json_of(rows::read(&file)?, metadata)?)
}
