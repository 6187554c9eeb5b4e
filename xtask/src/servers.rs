//! Finds the servers that the tests talk to, and installs them by the system's package manager.
//!
//! The tests start their own processes of these programs; a service of the system is never used.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::run;
use crate::workspace;

/// A program that the tests need.
#[derive(Debug)]
struct Server {
    program: &'static str,
    /// Names another program than the first on PATH.
    variable: &'static str,
    /// What it must be able to do, if being there is not enough.
    trial: &'static [&'static str],
}

const SERVERS: [Server; 3] = [
    Server { program: "redis-server", variable: "CACHALOT_REDIS_SERVER", trial: &[] },
    Server { program: "memcached", variable: "CACHALOT_MEMCACHED", trial: &[] },
    // Distributions split off what makes a virtual environment, which the tests of the layout `plain` need.
    Server { program: "python3", variable: "CACHALOT_PYTHON", trial: &["-c", "import ensurepip, venv"] },
];

/// A package manager and the command lines that install them with it.
struct Manager {
    program: &'static str,
    needs_root: bool,
    commands: &'static [&'static [&'static str]],
}

const MANAGERS: [Manager; 5] = [
    Manager {
        program: "apt-get",
        needs_root: true,
        commands: &[
            &["apt-get", "update"],
            &[
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "RUNLEVEL=1",
                "apt-get",
                "install",
                "--yes",
                "--no-install-recommends",
                "redis-server",
                "memcached",
                "python3",
                "python3-venv",
            ],
        ],
    },
    Manager {
        program: "dnf",
        needs_root: true,
        commands: &[&["dnf", "install", "--assumeyes", "redis", "memcached", "python3"]],
    },
    Manager {
        program: "apk",
        needs_root: true,
        commands: &[&["apk", "add", "redis", "memcached", "python3"]],
    },
    Manager {
        program: "pacman",
        needs_root: true,
        commands: &[&[
            "pacman",
            "--sync",
            "--refresh",
            "--needed",
            "--noconfirm",
            "redis",
            "memcached",
            "python",
        ]],
    },
    Manager {
        program: "brew",
        needs_root: false,
        commands: &[&["brew", "install", "redis", "memcached", "python3"]],
    },
];

/// Debian's packages ask this program before they start a service; 101 forbids it.
const DEBIAN_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Makes sure that every server is there; the tests look where this looks.
pub(crate) fn ensure(install_missing: bool) -> Result<()> {
    let missing = missing(&SERVERS);
    if !missing.is_empty() {
        let names = missing.join(" and ");
        if !install_missing {
            bail!("{names} not found: run `cargo xtask test --install-servers`, or install it yourself");
        }
        install().with_context(|| format!("{names} could not be installed; install it yourself"))?;
    }
    SERVERS.iter().try_for_each(announce)
}

fn missing(servers: &[Server]) -> Vec<&'static str> {
    servers.iter().filter(|server| find(server).is_none()).map(|server| server.program).collect()
}

fn announce(server: &Server) -> Result<()> {
    let path = find(server)
        .with_context(|| format!("{} not found; name the program in {}", server.program, server.variable))?;
    eprintln!("{}: {}", server.program, path.display());
    Ok(())
}

fn find(server: &Server) -> Option<PathBuf> {
    named(server).filter(|path| server.trial.is_empty() || does(path, server.trial))
}

/// Whether the program does that without an error.
fn does(program: &Path, trial: &[&str]) -> bool {
    Command::new(program).args(trial).output().is_ok_and(|output| output.status.success())
}

fn named(server: &Server) -> Option<PathBuf> {
    match env::var_os(server.variable) {
        Some(named) => Some(PathBuf::from(&named)).filter(|path| path.is_file()).or_else(|| on_path(&named)),
        None => on_path(server.program),
    }
}

fn on_path(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(&program)).find(|file| file.is_file())
}

fn install() -> Result<()> {
    let manager = MANAGERS
        .iter()
        .find(|manager| on_path(manager.program).is_some())
        .context("none of apt-get, dnf, apk, pacman and brew is here")?;
    if manager.program == "apt-get" && !Path::new(DEBIAN_POLICY).exists() {
        return with_services_forbidden(|| run_all(manager));
    }
    run_all(manager)
}

fn run_all(manager: &Manager) -> Result<()> {
    manager.commands.iter().try_for_each(|words| run(&mut privileged(words, manager.needs_root)?))
}

/// Keeps Debian's packages from starting services on the default ports while `work` runs.
fn with_services_forbidden(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let script = workspace::root().join("xtask/src/policy-rc.d");
    let script = script.to_str().context("the workspace's path is no UTF-8")?;
    run(&mut privileged(&["install", "-m", "755", script, DEBIAN_POLICY], true)?)?;
    let done = work();
    run(&mut privileged(&["rm", DEBIAN_POLICY], true)?)?;
    done
}

fn privileged(words: &[&str], needs_root: bool) -> Result<Command> {
    let sudo: &[&str] = if needs_root && !is_root()? { &["sudo"] } else { &[] };
    let mut words = sudo.iter().chain(words);
    let mut command = Command::new(words.next().context("an empty command")?);
    command.args(words);
    Ok(command)
}

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("cannot start id")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: Server =
        Server { program: "no-such-server-anywhere", variable: "XTASK_TEST_UNSET", trial: &[] };

    #[test]
    fn a_program_on_the_path_is_found() {
        assert!(on_path("cargo").is_some_and(|path| path.is_file()));
    }

    #[test]
    fn a_program_that_fails_its_trial_is_not_there() {
        let cargo = |trial| Server { program: "cargo", variable: "XTASK_TEST_UNSET", trial };
        assert!(find(&cargo(&["--version"])).is_some());
        assert_eq!(find(&cargo(&["no-such-command-here"])), None);
    }

    #[test]
    fn a_missing_server_is_named() {
        assert_eq!(missing(&[NOWHERE]), ["no-such-server-anywhere"]);
    }

    #[test]
    fn a_server_that_cannot_be_found_says_which_variable_names_it() {
        let text = format!("{:#}", announce(&NOWHERE).unwrap_err());
        assert_eq!(text, "no-such-server-anywhere not found; name the program in XTASK_TEST_UNSET");
    }

    #[test]
    fn every_package_manager_installs_all_of_them() {
        for manager in &MANAGERS {
            let last = manager.commands.last().unwrap();
            assert!(last.contains(&"memcached"), "{}", manager.program);
            for name in ["redis", "python"] {
                assert!(last.iter().any(|word| word.starts_with(name)), "{name} by {}", manager.program);
            }
        }
    }

    #[test]
    fn what_needs_no_root_runs_as_the_user() {
        assert_eq!(privileged(&["brew", "install"], false).unwrap().get_program(), "brew");
    }
}
