//! Running other programs: each one is echoed before it starts.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// The cargo that runs us, so that the toolchain stays the same.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args);
    command
}

/// Runs a program to its end, its output passing straight through; a failure is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    echo(command);
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    check(command, status)
}

/// Runs a program and returns what it prints on standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    check(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no UTF-8", line(command)))
}

/// Runs a program whose output matters only if it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    check(command, output.status).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a program, passes its standard output through and shows each line of it to `on_line`.
pub(crate) fn stream(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    echo(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", line(command)))?;
    if let Some(stdout) = child.stdout.take() {
        pass_through(BufReader::new(stdout), std::io::stdout().lock(), &mut on_line)?;
    }
    Ok(child.wait()?)
}

fn pass_through(mut from: impl BufRead, mut to: impl Write, mut on_line: impl FnMut(&str)) -> Result<()> {
    let mut bytes = Vec::new();
    while from.read_until(b'\n', &mut bytes)? > 0 {
        to.write_all(&bytes)?;
        to.flush()?;
        on_line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    Ok(())
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

fn echo(command: &Command) {
    eprintln!("$ {}", line(command));
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        words.push(format!("{}={}", name.to_string_lossy(), quoted(&value)));
    }
    let program = Path::new(command.get_program());
    let program = if program.ends_with("cargo") { Path::new("cargo") } else { program };
    words.push(quoted(&program.to_string_lossy()));
    words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_echoed_as_one_would_type_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "-p", "core"]).env("RUSTFLAGS", "--cfg portable");
        assert_eq!(line(&command), "RUSTFLAGS='--cfg portable' cargo test -p core");
    }

    #[test]
    fn a_failing_program_is_an_error_that_names_it() {
        let error = run(Command::new("cargo").arg("no-such-command-here").stderr(Stdio::null()));
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("cargo no-such-command-here failed"), "{text}");
    }

    #[test]
    fn what_a_quiet_program_complained_of_is_told_when_it_fails() {
        assert!(quietly(Command::new("cargo").arg("--version")).is_ok());
        let error = quietly(Command::new("cargo").arg("no-such-command-here")).unwrap_err();
        assert!(error.to_string().contains("no such command"), "{error}");
    }

    #[test]
    fn every_line_passes_and_is_seen_also_the_last_without_a_newline() {
        let mut lines = Vec::new();
        let mut passed = Vec::new();
        pass_through(&b"one\ntwo"[..], &mut passed, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(passed, b"one\ntwo");
        assert_eq!(lines, ["one", "two"]);
    }
}
