//! Programs that print a table of their own and write their rows of the report, a JSON object each line.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::run;

/// The suites that are such programs, not criterion's.
pub(super) const SUITES: [&str; 5] = ["fleet", "invalidation", "ring", "stampede", "strategies"];

/// Runs the program and returns what it reports.
pub(super) fn measure(program: &Path, rounds: usize, file: &Path) -> Result<Vec<Value>> {
    let mut command = Command::new(program);
    command.args(["--bench", "--rounds", &rounds.to_string(), "--report"]).arg(file);
    run(&mut command)?;
    read(file)
}

/// The rows that a program left in `file`.
pub(super) fn read(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    rows(&text)
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
