//! What the rounds said: medians, ratios against a baseline, as a table and as JSON.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;
use cargo_metadata::{DependencyKind, Metadata};
use serde_json::{Map, Value, json};

use super::{Case, benches};
use crate::run::read;

/// One contender's values in one case, in the order of the rounds.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) case: String,
    pub(super) contender: String,
    pub(super) values: Vec<f64>,
}

impl Series {
    /// An empty series for each contender.
    pub(super) fn of_case(case: &Case) -> Vec<Self> {
        let series = |contender: &String| Self {
            case: case.name.clone(),
            contender: contender.clone(),
            values: Vec::new(),
        };
        case.contenders.iter().map(series).collect()
    }

    /// This series over another, round by round.
    fn over(&self, other: &Self) -> Vec<f64> {
        self.values.iter().zip(&other.values).map(|(ours, theirs)| ours / theirs).collect()
    }
}

/// The middle and the ends of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { median: (low + high) / 2.0, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

/// One line of the report.
#[derive(Clone, Debug)]
struct Row {
    suite: String,
    case: String,
    contender: String,
    metric: String,
    unit: &'static str,
    spread: Spread,
    rounds: usize,
}

/// Everything measured in one run.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    /// Of programs that have printed their own table.
    printed: Vec<Value>,
}

impl Report {
    /// Adds a suite's series, with their ratios to each other baseline that takes part in the same case.
    pub(super) fn add(&mut self, suite: &str, all: &[Series], baselines: &[String]) {
        for series in all {
            self.row(suite, series, String::from("time"), "ns/op", &series.values);
            for baseline in baselines.iter().filter(|baseline| **baseline != series.contender) {
                let base = all.iter().find(|other| other.case == series.case && other.contender == *baseline);
                if let Some(base) = base {
                    self.row(suite, series, format!("time / {baseline}"), "ratio", &series.over(base));
                }
            }
        }
    }

    /// Adds what a program has measured and printed itself.
    pub(super) fn add_rows(&mut self, rows: Vec<Value>) {
        self.printed.extend(rows);
    }

    fn row(&mut self, suite: &str, of: &Series, metric: String, unit: &'static str, values: &[f64]) {
        self.rows.push(Row {
            suite: suite.into(),
            case: of.case.clone(),
            contender: of.contender.clone(),
            metric,
            unit,
            spread: Spread::of(values),
            rounds: values.len(),
        });
    }

    /// A line per case, contender and metric, for people.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        let mut heading = String::new();
        for row in &self.rows {
            let new = format!("{} {}", row.suite, row.case);
            if new != heading {
                let _ = writeln!(table, "{new:<32} {:<22} {:>11} {:>11} {:>11}", "", "median", "min", "max");
                heading = new;
            }
            let Spread { median, min, max } = row.spread;
            let digits = if row.unit == "ratio" { 3 } else { 1 };
            let name = if row.metric == "time" { row.contender.as_str() } else { "" };
            let metric = if row.metric == "time" { row.unit } else { row.metric.as_str() };
            let _ = writeln!(
                table,
                "  {name:<30} {metric:<22} {median:>11.digits$} {min:>11.digits$} {max:>11.digits$}"
            );
        }
        table
    }

    /// The same for programs, with the machine and the versions it was measured on.
    pub(super) fn json(&self, metadata: &Metadata) -> Result<String> {
        let rows = self.rows.iter().map(Row::json);
        json_of(rows.chain(self.printed.iter().cloned()).collect(), metadata)
    }
}

/// Rows as one document, with the machine and the versions they were measured on.
pub(super) fn json_of(rows: Vec<Value>, metadata: &Metadata) -> Result<String> {
    let report = json!({ "results": rows, "machine": machine(), "versions": versions(metadata)? });
    Ok(serde_json::to_string_pretty(&report)?)
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "suite": self.suite,
            "case": self.case,
            "contender": self.contender,
            "metric": self.metric,
            "unit": self.unit,
            "better": "lower",
            "median": self.spread.median,
            "min": self.spread.min,
            "max": self.spread.max,
            "rounds": self.rounds,
        })
    }
}

fn machine() -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let os = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    json!({ "cores": cores, "cpu": cpu_model(), "os": os })
}

fn cpu_model() -> String {
    let linux = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = linux.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let elsewhere = || {
        let asked = Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
        Some(String::from_utf8(asked.stdout).ok()?.trim().to_owned())
    };
    model.map(|(_, name)| name.to_owned()).or_else(elsewhere).unwrap_or_else(|| "unknown".into())
}

/// The compiler and what the benches link: our crates and their peers.
fn versions(metadata: &Metadata) -> Result<Value> {
    let mut versions = Map::new();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    versions.insert("rustc".into(), read(Command::new(rustc).arg("--version"))?.trim().into());
    let benches = benches(metadata)?;
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    for node in nodes.filter(|node| node.id == benches.id) {
        let built = |kind: DependencyKind| kind != DependencyKind::Build;
        for linked in node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|info| built(info.kind))) {
            let package = &metadata[&linked.pkg];
            versions.insert(package.name.to_string(), package.version.to_string().into());
        }
    }
    Ok(versions.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(contender: &str, values: &[f64]) -> Series {
        Series { case: "get".into(), contender: contender.into(), values: values.to_vec() }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(&[5.0]), Spread { median: 5.0, min: 5.0, max: 5.0 });
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_each_round() {
        let mut report = Report::default();
        // The middle round was slow for both: a ratio of medians would be 10 / 20, too.
        let all = [series("ours", &[10.0, 90.0, 8.0]), series("theirs", &[20.0, 100.0, 10.0])];
        report.add("hits", &all, &["theirs".into()]);
        let ratio = report.rows.iter().find(|row| row.contender == "ours" && row.unit == "ratio").unwrap();
        assert_eq!(ratio.spread, Spread { median: 0.8, min: 0.5, max: 0.9 });
        assert_eq!(ratio.metric, "time / theirs");
    }

    #[test]
    fn a_case_without_the_baseline_has_no_ratio() {
        let mut report = Report::default();
        report.add("hits", &[series("ours", &[1.0])], &["absent".into()]);
        assert_eq!(report.rows.len(), 1);
    }

    #[test]
    fn a_row_in_json_has_every_field() {
        let mut report = Report::default();
        report.add("hits", &[series("ours", &[1.0, 3.0])], &[]);
        let expected = json!({
            "suite": "hits", "case": "get", "contender": "ours", "metric": "time", "unit": "ns/op",
            "better": "lower", "median": 2.0, "min": 1.0, "max": 3.0, "rounds": 2,
        });
        assert_eq!(report.rows[0].json(), expected);
    }
}
