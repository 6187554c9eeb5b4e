//! Suites that are programs of the benches: they print tables of their own, take options of their own, and
//! leave their rows in a file.

use anyhow::Result;
use cargo_metadata::Metadata;

use super::report::json_of;
use super::rows;
use crate::run::{cargo, run};

/// `memory`: times in rounds of its own, sizes and peaks. `hit-ratio`: hits counted, so one round says it all.
pub(super) const SUITES: [&str; 2] = ["memory", "hit-ratio"];

/// Of those that are built as benches: the suites that take more options than a number of rounds.
const BENCHES: [&str; 2] = ["invalidation", "strategies"];

pub(super) fn is_suite(name: &str) -> bool {
    SUITES.contains(&name) || BENCHES.contains(&name)
}

/// Runs the program with `args` and wraps the rows it writes into the report.
pub(super) fn main(metadata: &Metadata, suite: &str, args: &[String]) -> Result<()> {
    let home = metadata.target_directory.join("bench").into_std_path_buf();
    std::fs::create_dir_all(&home)?;
    let file = home.join(suite).with_extension("jsonl");
    let mut command = if BENCHES.contains(&suite) {
        cargo(&["bench", "--package", "benches", "--bench", suite])
    } else {
        let mut command = cargo(&["run", "--package", "benches", "--profile", "bench", "--bin", suite]);
        command.args(["--features", "peers,traces"]);
        command
    };
    run(command.args(["--", "--report"]).arg(&file).args(args))?;
    super::write(&home, &json_of(rows::read(&file)?, metadata)?)
}
