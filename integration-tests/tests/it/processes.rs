//! Real processes over one Redis.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cachalot_testkit::RedisServer;

const CALLERS: usize = 250;
/// Longer than anything here can take on a busy machine.
const AGES: Duration = Duration::from_secs(60);

/// A `fleet-node`, killed when dropped.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn start(server: &RedisServer, journal: &Path, lease_term: Duration) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fleet-node"))
            .args([&server.url(), journal.to_str().unwrap()])
            .args([CALLERS.to_string(), lease_term.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Ends with the process, or with the test.
            BufReader::new(stdout).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        let process = Self { child, stdin, lines };
        process.hear("ready");
        process
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Waits for `line`; skips others.
    fn hear(&self, line: &str) {
        while self.lines.recv_timeout(AGES).unwrap_or_else(|_| panic!("never heard {line:?}")) != line {}
    }

    fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server, and the file in which the loads are counted.
fn world() -> (RedisServer, std::path::PathBuf) {
    let server = RedisServer::start();
    let journal = server.directory().join("loads");
    (server, journal)
}

/// Who has loaded, in order.
fn loads(journal: &Path) -> Vec<u32> {
    std::fs::read_to_string(journal).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

fn all_served() -> String {
    format!("done {CALLERS}")
}

#[test]
fn four_processes_with_a_thousand_callers_of_a_cold_key_load_it_once() {
    let (server, journal) = world();
    let mut fleet: Vec<_> = (0..4).map(|_| Process::start(&server, &journal, AGES)).collect();
    fleet.iter_mut().for_each(|process| process.tell("go"));
    fleet.iter().for_each(|process| process.hear("waiting"));
    fleet.iter_mut().for_each(|process| process.tell("finish"));
    fleet.iter().for_each(|process| process.hear(&all_served()));
    assert_eq!(loads(&journal).len(), 1);
}

#[test]
fn when_a_process_is_killed_while_it_loads_one_of_the_others_loads_after_the_lease_term() {
    let (server, journal) = world();
    let term = Duration::from_secs(2);
    let mut fleet: Vec<_> = (0..4).map(|_| Process::start(&server, &journal, term)).collect();
    let mut victim = fleet.remove(0);
    victim.tell("go");
    victim.hear("loading");
    for process in &mut fleet {
        process.tell("finish");
        process.tell("go");
    }
    victim.kill();
    fleet.iter().for_each(|process| process.hear(&all_served()));
    let loads = loads(&journal);
    assert_eq!(loads.len(), 2);
    assert_eq!(loads[0], victim.child.id());
    assert!(fleet.iter().any(|process| process.child.id() == loads[1]));
}
