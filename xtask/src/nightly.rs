//! `cargo xtask nightly`: what needs a nightly toolchain or more time than a change can wait.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, read, run};
use crate::test::{Counts, Runs, passed};
use crate::{Ended, workspace};

pub(crate) fn main(args: &[String]) -> Ended {
    let mut runs = Runs::default();
    let done = minutes(args).and_then(|minutes| all(&mut runs, minutes));
    let counts = (runs.counts != Counts::default()).then_some(runs.counts);
    Ended { done, counts }
}

/// How long each fuzz target is run.
fn minutes(args: &[String]) -> Result<u64> {
    match args {
        [] => Ok(1),
        [flag, minutes] if flag == "--minutes" => minutes.parse().context("--minutes takes a number"),
        _ => bail!("takes only --minutes N, got {args:?}"),
    }
}

/// Everything, however much of it fails.
fn all(runs: &mut Runs, minutes: u64) -> Result<()> {
    let host = host()?;
    let target = workspace::metadata()?.target_directory.into_std_path_buf();
    runs.suite(&mut address(&host, &target))?;
    ensure_cargo_fuzz()?;
    for name in fuzz_targets()? {
        runs.example(&mut fuzz(&name, &target, minutes)?)?;
    }
    runs.suite(&mut worlds())?;
    runs.suite(&mut kills())?;
    passed(runs.counts)
}

/// The platform of the nightly toolchain, by its name in full.
fn host() -> Result<String> {
    let version = nightly("rustc", &["-vV"])
        .output()
        .context("rustup is not installed; it keeps the nightly toolchain apart from the project's own")?;
    ensure!(
        version.status.success(),
        "there is no nightly toolchain; `rustup toolchain install nightly --profile minimal` installs one"
    );
    host_of(&String::from_utf8_lossy(&version.stdout)).context("rustc -vV names no host")
}

fn host_of(version: &str) -> Option<String> {
    version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// The crate with `unsafe`, each access of memory checked.
fn address(host: &str, target: &Path) -> Command {
    let mut command = nightly("cargo", &["test", "--package", "cachalot-memory-backend", "--all-features"]);
    // With a target named, build scripts and macros stay as they are.
    command.args(["--lib", "--tests", "--no-fail-fast", "--target", host]);
    command.env("RUSTFLAGS", "-Zsanitizer=address").env("CARGO_TARGET_DIR", target.join("address"));
    command
}

fn ensure_cargo_fuzz() -> Result<()> {
    if !cargo(&["fuzz", "--version"]).output()?.status.success() {
        run(&mut cargo(&["install", "cargo-fuzz", "--locked"]))?;
    }
    Ok(())
}

fn fuzz_targets() -> Result<Vec<String>> {
    let list = read(nightly("cargo", &["fuzz", "list"]).current_dir(fuzzed()))?;
    let names: Vec<String> = list.lines().map(str::to_owned).collect();
    ensure!(!names.is_empty(), "no fuzz targets in {}", fuzzed().display());
    Ok(names)
}

/// One target for some minutes; what was found earlier is tried first.
fn fuzz(name: &str, target: &Path, minutes: u64) -> Result<Command> {
    let corpus = target.join("corpus").join(name);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let mut command = nightly("cargo", &["fuzz", "run", name]);
    command.arg(corpus).args(["--", &format!("-max_total_time={}", 60 * minutes), "-malloc_limit_mb=64"]);
    command.arg("-print_final_stats=1").current_dir(fuzzed()).env("CARGO_TARGET_DIR", target.join("fuzz"));
    Ok(command)
}

fn fuzzed() -> PathBuf {
    workspace::root().join("crates/cachalot-core")
}

/// Far more worlds, and keys through one cache, than a change can wait for.
fn worlds() -> Command {
    let mut command = cargo(&["test", "--package", "integration-tests", "--test", "it", "--release"]);
    command.args(["--no-fail-fast", "--", "world", "residue"]).env("CACHALOT_SEEDS", "100000");
    command
}

/// A process that writes behind its cache, killed ten times as often as for a change.
fn kills() -> Command {
    let mut command = cargo(&["test", "--package", "integration-tests", "--test", "it", "--release"]);
    command.args(["--no-fail-fast", "--", "kill::"]).env("CACHALOT_KILLS", "1000");
    command
}

fn nightly(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]).args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn fuzzing_takes_a_minute_unless_told() {
        assert_eq!(minutes(&[]).unwrap(), 1);
        assert_eq!(minutes(&args(&["--minutes", "30"])).unwrap(), 30);
        assert!(minutes(&args(&["--minutes", "long"])).is_err());
        assert!(minutes(&args(&["--hours", "1"])).is_err());
    }

    #[test]
    fn the_host_is_read_from_what_the_compiler_says_of_itself() {
        let version =
            "rustc 1.97.0-nightly\nbinary: rustc\nhost: aarch64-apple-darwin\nrelease: 1.97.0-nightly\n";
        assert_eq!(host_of(version).as_deref(), Some("aarch64-apple-darwin"));
        assert_eq!(host_of("rustc 1.97.0-nightly"), None);
    }
}
