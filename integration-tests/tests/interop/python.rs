//! A service in Python with redis-py, in a virtual environment of its own.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/interop");

/// `service.py`, killed when dropped.
pub(crate) struct Python {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Python {
    /// A service on the server at `url`, which listens on the channel already.
    pub(crate) fn start(url: &str) -> Self {
        let mut child = Command::new(interpreter())
            // No bytecode beside the sources.
            .args(["-B", "service.py", url])
            .current_dir(SOURCES)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut python = Self { child, stdin, lines: BufReader::new(stdout).lines() };
        assert_eq!(python.line(), "ready");
        python
    }

    /// What the method gives for these arguments.
    pub(crate) fn call(&mut self, words: Value) -> Value {
        self.tell(words);
        self.answer()
    }

    /// Calls the method, and leaves its answer to [`answer`](Python::answer).
    pub(crate) fn tell(&mut self, words: Value) {
        writeln!(self.stdin, "{words}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    }

    fn line(&mut self) -> String {
        // It has said on its standard error why there is none.
        self.lines.next().expect("the service has ended").unwrap()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreter of the virtual environment, which is made once for each set of requirements.
fn interpreter() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(make)
}

fn make() -> PathBuf {
    let requirements = fs::read_to_string(Path::new(SOURCES).join("requirements.txt")).unwrap();
    let name = requirements.trim().replace("==", "-").replace(char::is_whitespace, "-");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (folder, making) = (target.join(&name), target.join(format!("{name}.{}", std::process::id())));
    let python = folder.join("bin/python");
    if python.is_file() {
        return python;
    }
    let system = env::var_os("CACHALOT_PYTHON").unwrap_or_else(|| "python3".into());
    run(
        Command::new(&system).args(["-m", "venv"]).arg(&making),
        "python3 with its module venv is missing: run `cargo xtask test --install-servers`, or name one in CACHALOT_PYTHON",
    );
    run(
        Command::new(making.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(Path::new(SOURCES).join("requirements.txt")),
        "redis-py could not be installed by pip: these tests need the package index once, or a mirror that pip knows",
    );
    // Whole, or not at all. Somebody else may have been quicker.
    if fs::rename(&making, &folder).is_err() {
        let _ = fs::remove_dir_all(&making);
    }
    assert!(python.is_file(), "no interpreter in {}", folder.display());
    python
}

fn run(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{hint} ({error})"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{hint}\n{said}");
}
