//! `cargo xtask bench`: the benches in short rounds, the contenders of a case side by side in each.
//!
//! Single figures wander between runs; contenders measured in one round share its weather, so the
//! ratio of each round is what counts, and the median of these ratios is what gets reported.

mod program;
mod report;
mod rows;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Message, Metadata, Package, TargetKind};
use serde_json::Value;

use crate::run::{cargo, quietly, read};
use crate::workspace;
use report::{Report, Series};

/// One measurement: long enough for a stable median, short enough that a round stays one weather.
const WARM_UP: &str = "0.1";
const MEASUREMENT: &str = "0.4";
const SAMPLES: &str = "10";
/// What criterion asks for at least; we take its median only, not its intervals.
const RESAMPLES: &str = "1001";

const ROUNDS: usize = 9;

pub(crate) fn main(args: &[String]) -> Result<()> {
    let metadata = workspace::metadata()?;
    if let Some((suite, args)) = args.split_first().filter(|(suite, _)| program::is_suite(suite)) {
        return program::main(&metadata, suite, args);
    }
    let options = Options::parse(args)?;
    let suites = build(&metadata, options.suite.as_deref())?;
    let home = metadata.target_directory.join("bench").into_std_path_buf();
    std::fs::create_dir_all(&home)?;
    let mut report = Report::default();
    for suite in &suites {
        if rows::SUITES.contains(&suite.name.as_str()) {
            let file = home.join(&suite.name).with_extension("jsonl");
            report.add_rows(rows::measure(&suite.program, options.rounds, &file)?);
            continue;
        }
        let cases = suite.cases()?;
        let rounds = Rounds { suite, cases: &cases, home: &home, count: options.rounds };
        let baselines = match &options.baseline {
            Some(asked_for) => vec![asked_for.clone()],
            None => baselines(&metadata, &suite.name)?,
        };
        report.add(&suite.name, &rounds.measure()?, &baselines);
    }
    print!("\n{}", report.table());
    write(&home, &report.json(&metadata)?)
}

/// Writes the report for programs and says where it is.
fn write(home: &Path, report: &str) -> Result<()> {
    let file = home.join("report.json");
    std::fs::write(&file, report)?;
    println!("\nreport: {}", file.display());
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    suite: Option<String>,
    rounds: usize,
    baseline: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { suite: None, rounds: ROUNDS, baseline: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--rounds" => options.rounds = args.next().context("--rounds needs a number")?.parse()?,
                "--baseline" => {
                    options.baseline = Some(args.next().context("--baseline needs a name")?.clone())
                }
                suite if !suite.starts_with('-') && options.suite.is_none() => {
                    options.suite = Some(suite.into())
                }
                other => bail!("bench does not know {other:?}"),
            }
        }
        ensure!(options.rounds > 0, "--rounds must be at least 1");
        Ok(options)
    }
}

/// The contenders that the others of a suite are held against, from the manifest of the benches.
fn baselines(metadata: &Metadata, suite: &str) -> Result<Vec<String>> {
    let names = benches(metadata)?.metadata["baselines"][suite].as_array();
    Ok(names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn benches(metadata: &Metadata) -> Result<&Package> {
    metadata.packages.iter().find(|package| *package.name == "benches").context("no package benches")
}

/// A compiled file of `benches/benches/`.
struct Suite {
    name: String,
    program: PathBuf,
}

/// Builds the benches with their peers, all or the one that was asked for.
fn build(metadata: &Metadata, only: Option<&str>) -> Result<Vec<Suite>> {
    let targets = &benches(metadata)?.targets;
    let names: Vec<&str> = targets.iter().filter(|t| t.is_bench()).map(|t| t.name.as_str()).collect();
    if let Some(only) = only.filter(|only| !names.contains(only)) {
        bail!("no suite {only:?}; there are {}, {}", names.join(", "), program::SUITES.join(", "));
    }
    let mut command = cargo(&["bench", "--package", "benches", "--features", "peers", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    match only {
        Some(only) => command.args(["--bench", only]),
        None => command.arg("--benches"),
    };
    eprintln!("building the benches, optimised throughout");
    suites_of(&read(&mut command)?)
}

/// The bench programs among cargo's messages.
fn suites_of(messages: &str) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for message in Message::parse_stream(messages.as_bytes()) {
        if let Message::CompilerArtifact(artifact) = message? {
            let program = artifact.executable.filter(|_| artifact.target.kind.contains(&TargetKind::Bench));
            suites
                .extend(program.map(|program| Suite { name: artifact.target.name, program: program.into() }));
        }
    }
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

/// What gets compared, and who takes part.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    name: String,
    contenders: Vec<String>,
}

impl Suite {
    fn cases(&self) -> Result<Vec<Case>> {
        cases_of(&read(Command::new(&self.program).args(["--bench", "--list"]))?)
    }
}

/// The cases in a list of benchmarks, each line `<case>/<contender>: benchmark`.
fn cases_of(list: &str) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for id in list.lines().filter_map(|line| line.strip_suffix(": benchmark")) {
        let (case, contender) =
            id.split_once('/').with_context(|| format!("{id}: not <case>/<contender>"))?;
        let contender = contender.to_owned();
        match cases.iter_mut().find(|known| known.name == case) {
            Some(known) => known.contenders.push(contender),
            None => cases.push(Case { name: case.into(), contenders: vec![contender] }),
        }
    }
    ensure!(!cases.is_empty(), "no benchmark listed");
    Ok(cases)
}

/// The measuring of one suite.
struct Rounds<'a> {
    suite: &'a Suite,
    cases: &'a [Case],
    home: &'a Path,
    count: usize,
}

impl Rounds<'_> {
    fn measure(&self) -> Result<Vec<Series>> {
        let mut all: Vec<Series> = self.cases.iter().flat_map(Series::of_case).collect();
        for round in 0..self.count {
            for case in self.cases {
                for at in 0..case.contenders.len() {
                    // Each round begins with another contender: none always runs on the cooler machine.
                    let contender = &case.contenders[(at + round) % case.contenders.len()];
                    let ns = self.one(&format!("{}/{contender}", case.name))?;
                    eprintln!(
                        "round {}/{}  {}  {}/{contender}: {ns:.1} ns",
                        round + 1,
                        self.count,
                        self.suite.name,
                        case.name
                    );
                    let series = all.iter_mut().find(|s| s.case == case.name && s.contender == *contender);
                    series.context("a contender that was not listed")?.values.push(ns);
                }
            }
        }
        Ok(all)
    }

    /// Measures one benchmark and returns nanoseconds per operation.
    fn one(&self, id: &str) -> Result<f64> {
        let home = self.home.join("criterion").join(&self.suite.name);
        let mut command = Command::new(&self.suite.program);
        command.args(["--bench", "--noplot", "--exact", id, "--warm-up-time", WARM_UP]);
        command.args(["--measurement-time", MEASUREMENT, "--sample-size", SAMPLES]);
        command.args(["--nresamples", RESAMPLES]);
        quietly(command.env("CRITERION_HOME", &home))?;
        let folder = home.join(id).join("new");
        let file = |name: &str| -> Result<Value> {
            let path = folder.join(name);
            let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(serde_json::from_slice(&text)?)
        };
        ns_per_operation(&file("estimates.json")?, &file("benchmark.json")?)
    }
}

/// Criterion's median per iteration, divided by the operations that one iteration stands for.
fn ns_per_operation(estimates: &Value, benchmark: &Value) -> Result<f64> {
    let median = estimates["median"]["point_estimate"].as_f64().context("no median in the estimates")?;
    let operations = benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0);
    Ok(median / operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn a_suite_rounds_and_a_baseline_can_be_asked_for() {
        let expected = Options { suite: Some("redis".into()), rounds: 3, baseline: Some("bare".into()) };
        assert_eq!(options(&["redis", "--rounds", "3", "--baseline", "bare"]).unwrap(), expected);
        assert_eq!(options(&[]).unwrap(), Options { suite: None, rounds: ROUNDS, baseline: None });
        assert!(options(&["--rounds", "0"]).is_err());
        assert!(options(&["--fast"]).is_err());
    }

    #[test]
    fn contenders_are_gathered_under_their_case() {
        let cases =
            cases_of("get_1/ours: benchmark\nget_1/theirs: benchmark\nget_2/ours: benchmark\n").unwrap();
        let case = |name: &str, contenders: &[&str]| Case {
            name: name.into(),
            contenders: contenders.iter().map(|contender| contender.to_string()).collect(),
        };
        assert_eq!(cases, [case("get_1", &["ours", "theirs"]), case("get_2", &["ours"])]);
        assert!(cases_of("").is_err());
    }

    #[test]
    fn an_iteration_of_many_operations_is_divided_by_them() {
        let estimates = serde_json::json!({ "median": { "point_estimate": 640.0 } });
        let many = serde_json::json!({ "throughput": { "Elements": 64 } });
        assert_eq!(ns_per_operation(&estimates, &many).unwrap(), 10.0);
        assert_eq!(ns_per_operation(&estimates, &serde_json::json!({ "throughput": null })).unwrap(), 640.0);
    }
}
