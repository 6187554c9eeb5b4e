//! `cargo xtask test`: every test there is, and how many passed.

use std::fmt;
use std::ops::AddAssign;
use std::process::Command;

use anyhow::{Result, ensure};
use cargo_metadata::TargetKind;

use crate::run::{cargo, line, stream};
use crate::{Ended, only_flag, servers, workspace};

/// The whole workspace with every feature; the benches would build other projects' caches then.
const EVERYTHING: [&str; 5] = ["--workspace", "--exclude", "benches", "--all-features", "--no-fail-fast"];

/// How many tests passed and failed; an example that runs to its end counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// The counts of one `test result:` line of the test harness.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            let field = counts.split("; ").find_map(|field| field.strip_suffix(what))?;
            field.trim().parse().ok()
        };
        Some(Self { passed: count("passed")?, failed: count("failed")? })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

pub(crate) fn main(args: &[String]) -> Ended {
    match only_flag(args, "--install-servers").and_then(run_all) {
        Ok(counts) => Ended { done: passed(counts), counts: Some(counts) },
        Err(error) => Err(error).into(),
    }
}

/// An error if any test failed.
pub(crate) fn passed(counts: Counts) -> Result<()> {
    ensure!(counts.failed == 0, "tests failed");
    ensure!(counts.passed > 0, "no test ran");
    Ok(())
}

/// Runs everything, however much of it fails.
pub(crate) fn run_all(install_servers: bool) -> Result<Counts> {
    servers::ensure(install_servers)?;
    let mut runs = Runs::default();
    runs.suite(cargo(&["test", "--lib", "--bins", "--tests"]).args(EVERYTHING))?;
    runs.suite(cargo(&["test", "--doc"]).args(EVERYTHING))?;
    runs.suite(&mut cargo(&["test", "--package", "benches", "--lib", "--no-fail-fast"]))?;
    runs.suite(&mut portable()?)?;
    for (package, tests) in SCHEDULES {
        runs.suite(&mut schedules(package, tests)?)?;
    }
    for mut example in examples()? {
        runs.example(&mut example)?;
    }
    runs.print_failures();
    Ok(runs.counts)
}

/// The core with its portable fallbacks forced on, as platforms without a coarse clock see it.
fn portable() -> Result<Command> {
    let mut command = cargo(&["test", "--package", "cachalot-core", "--all-features", "--no-fail-fast"]);
    with_cfg(&mut command, "portable")?;
    Ok(command)
}

/// The tests that loom runs under every schedule of a few threads.
const SCHEDULES: [(&str, &[&str]); 3] = [
    ("cachalot-stampede", &["--test", "interleavings"]),
    ("cachalot-memory-backend", &["--test", "once_interleavings"]),
    // What is not public: a filter among the tests of the library.
    ("cachalot-memory-backend", &["--lib", "interleavings"]),
];

fn schedules(package: &str, tests: &[&str]) -> Result<Command> {
    let mut command = cargo(&["test", "--package", package, "--release"]);
    command.args(tests);
    with_cfg(&mut command, "loom")?;
    Ok(command)
}

/// Builds with `--cfg cachalot_NAME`, in a target directory of its own.
pub(crate) fn with_cfg(command: &mut Command, name: &str) -> Result<()> {
    let target = workspace::metadata()?.target_directory.join(name);
    command.env("RUSTFLAGS", format!("--cfg cachalot_{name}")).env("CARGO_TARGET_DIR", target);
    Ok(())
}

/// Each example of each crate, run as a reader would run it.
fn examples() -> Result<Vec<Command>> {
    let metadata = workspace::metadata()?;
    let mut commands = Vec::new();
    for package in metadata.workspace_packages() {
        for target in package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Example)) {
            let mut command = cargo(&["run", "--quiet", "--package", &package.name]);
            command.args(["--example", &target.name]);
            if !target.required_features.is_empty() {
                command.args(["--features", &target.required_features.join(",")]);
            }
            commands.push(command);
        }
    }
    Ok(commands)
}

#[derive(Default)]
pub(crate) struct Runs {
    pub(crate) counts: Counts,
    failures: Vec<String>,
}

/// Lines kept of what one suite says of its failures: a summary, not the log again.
const LINES_OF_A_SUITE: usize = 400;

/// What the test harness says of failures: from its `failures:` to its result.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    is_listening: bool,
}

impl Said {
    fn hear(&mut self, line: &str) {
        self.is_listening = !line.starts_with("test result: ") && (self.is_listening || line == "failures:");
        if self.is_listening && self.lines.len() < LINES_OF_A_SUITE {
            self.lines.push(line.to_owned());
        }
    }
}

impl Runs {
    pub(crate) fn suite(&mut self, command: &mut Command) -> Result<()> {
        let mut counts = Counts::default();
        let mut said = Said::default();
        let status = stream(command, |line| {
            counts += Counts::of_line(line).unwrap_or_default();
            said.hear(line);
        })?;
        // A suite that does not compile or dies prints no result; it must not look green.
        counts.failed += u64::from(!status.success() && counts.failed == 0);
        self.count(command, counts, &said.lines);
        Ok(())
    }

    pub(crate) fn example(&mut self, command: &mut Command) -> Result<()> {
        let passed = stream(command, |_| ())?.success();
        self.count(command, Counts { passed: u64::from(passed), failed: u64::from(!passed) }, &[]);
        Ok(())
    }

    fn count(&mut self, command: &Command, counts: Counts, said: &[String]) {
        self.counts += counts;
        if counts.failed > 0 {
            self.failures.push(format!(
                "{} failed of: {}\n{}",
                counts.failed,
                line(command),
                said.join("\n")
            ));
        }
    }

    /// Again at the end, so that nobody searches thousands of lines for them.
    fn print_failures(&self) {
        for failure in &self.failures {
            println!("\n{failure}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(Counts::of_line(line), Some(Counts { passed: 12, failed: 3 }));
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Counts::of_line("test result_is_kept ... ok"), None);
        assert_eq!(Counts::of_line("running 3 tests"), None);
    }

    #[test]
    fn totals_are_one_line_of_two_numbers() {
        let mut total = Counts { passed: 1, failed: 0 };
        total += Counts { passed: 2, failed: 1 };
        assert_eq!(total.to_string(), "3 passed, 1 failed");
    }

    #[test]
    fn a_suite_that_prints_no_result_and_dies_is_a_failure() {
        let mut runs = Runs::default();
        runs.suite(Command::new("cargo").arg("no-such-command-here").stderr(Stdio::null())).unwrap();
        assert_eq!(runs.counts, Counts { passed: 0, failed: 1 });
        assert!(passed(runs.counts).is_err());
    }

    #[test]
    fn what_failed_is_said_again_with_its_command_and_why() {
        // Not through a program: what it printed would be counted by the run that runs this test.
        let mut said = Said::default();
        ["test a ... ok", "failures:", "---- b stdout ----", "why", "test result: FAILED. 1 passed", "later"]
            .into_iter()
            .for_each(|line| said.hear(line));
        let mut runs = Runs::default();
        runs.count(&Command::new("a-suite"), Counts { passed: 1, failed: 1 }, &said.lines);
        runs.count(&Command::new("another"), Counts { passed: 1, failed: 0 }, &[]);
        assert_eq!(runs.failures, ["1 failed of: a-suite\nfailures:\n---- b stdout ----\nwhy"]);
    }

    #[test]
    fn nothing_at_all_is_no_success() {
        assert!(passed(Counts::default()).is_err());
    }
}
