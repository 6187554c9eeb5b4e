//! `cargo xtask bench hit-ratio`: counts hits instead of time, so one round says it all.

use anyhow::{Context, Result};
use cargo_metadata::Metadata;
use serde_json::Value;

use super::report::json_of;
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
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    super::write(&home, &json_of(rows(&text)?, metadata)?)
}

/// A row each line.
fn rows(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no row: {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_row_and_anything_else_an_error() {
        assert_eq!(rows("{\"median\":1.5}\n{}\n").unwrap()[0]["median"], 1.5);
        assert!(rows("{}\nnonsense\n").is_err());
    }
}
