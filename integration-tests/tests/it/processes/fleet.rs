//! Processes that are steered by lines and answer by lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cachalot_testkit::RedisServer;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::AGES;

/// How many callers each process sends.
pub(super) const CALLERS: usize = 1000;

/// So many processes over one server, with leases of this term.
pub(super) fn fleet(server: &RedisServer, processes: usize, lease_term: Duration) -> Vec<Process> {
    let fleet: Vec<_> = (0..processes).map(|_| Process::start(server, lease_term)).collect();
    fleet.into_iter().map(|process| process.heard("ready")).collect()
}

/// A `fleet-node`, killed when dropped.
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// What it has said, as far as it was listened to.
    said: Vec<String>,
}

impl Process {
    fn start(server: &RedisServer, lease_term: Duration) -> Self {
        let lease_term = lease_term.as_millis().to_string();
        Self::of(env!("CARGO_BIN_EXE_fleet-node"), &[server.url(), CALLERS.to_string(), lease_term])
    }

    /// A process of this program.
    pub(super) fn of(program: &str, args: &[String]) -> Self {
        let mut child =
            Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Ends with the process, or with the test.
            BufReader::new(stdout).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { child, stdin, lines, said: Vec::new() }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Listens until it says a line that begins so, unless it has said one. Returns what follows.
    pub(super) fn hear(&mut self, beginning: &str) -> String {
        loop {
            if let Some(rest) = self.said.iter().find_map(|line| line.strip_prefix(beginning)) {
                return rest.trim_start().to_owned();
            }
            let line = self.lines.recv_timeout(AGES);
            self.said.push(line.unwrap_or_else(|_| panic!("no {beginning:?} after {:?}", self.said)));
        }
    }

    fn heard(mut self, line: &str) -> Self {
        self.hear(line);
        self
    }

    /// How many lines that begin so it has said.
    pub(super) fn count(&self, beginning: &str) -> usize {
        self.said.iter().filter(|line| line.starts_with(beginning)).count()
    }

    /// Waits until its callers are done; all of them must have got one and the same value.
    pub(super) fn serves(&mut self) -> u32 {
        self.hear("done");
        let served: Vec<_> = self.said.iter().filter_map(|line| line.strip_prefix("served ")).collect();
        let [one] = served.as_slice() else { panic!("not one value for all: {:?}", self.said) };
        let (callers, value) = one.split_once(' ').unwrap();
        assert_eq!(callers, CALLERS.to_string(), "{:?}", self.said);
        value.parse().unwrap()
    }

    /// What it finds now, without loading.
    pub(super) fn reads(&mut self) -> u32 {
        self.tell("read");
        self.hear("found").parse().unwrap()
    }

    /// Stops it in its tracks (SIGSTOP), and waits until it stands.
    pub(super) fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
    }

    /// Lets it go on after a [`stop`](Self::stop).
    pub(super) fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub(super) fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Says a line to all of them.
pub(super) fn tell_all(fleet: &mut [Process], line: &str) {
    fleet.iter_mut().for_each(|process| process.tell(line));
}

/// Waits until each of them has said it.
pub(super) fn hear_all(fleet: &mut [Process], line: &str) {
    for process in fleet {
        process.hear(line);
    }
}

/// Those that have loaded, each as often as it did. To be asked when they are done.
pub(super) fn loaders(fleet: &[Process]) -> Vec<u32> {
    fleet.iter().flat_map(|process| vec![process.id(); process.count("loading")]).collect()
}
