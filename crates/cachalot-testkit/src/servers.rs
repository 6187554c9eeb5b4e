//! Real servers for tests: each with its own process, port and directory, all gone when dropped.
//!
//! A server is killed by its process id when its handle is dropped, also while a test panics. Two things
//! keep a handle from being dropped, and so leave the server behind: a test process that dies by a signal,
//! and a handle in a `static`. Start a server per test instead; it takes some 20 ms.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

/// A `redis-server` of one's own: no persistence, nobody else's data. Derefs to [`Server`].
///
/// The program is the one that `CACHALOT_REDIS_SERVER` names, else `redis-server` on `PATH`.
#[derive(Debug)]
pub struct RedisServer(Server);

impl RedisServer {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// If the program is missing or does not answer within ten seconds.
    pub fn start() -> Self {
        Self::start_with([] as [&str; 0])
    }

    /// Starts one with more arguments, which win over the usual ones: `["--appendonly", "yes"]`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        Self(Server::start(&REDIS, args))
    }
}

impl Deref for RedisServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// A `memcached` of one's own. Derefs to [`Server`].
///
/// The program is the one that `CACHALOT_MEMCACHED` names, else `memcached` on `PATH`.
#[derive(Debug)]
pub struct MemcachedServer(Server);

impl MemcachedServer {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// If the program is missing or does not answer within ten seconds.
    pub fn start() -> Self {
        Self::start_with([] as [&str; 0])
    }

    /// Starts one with more arguments, which win over the usual ones: `["-m", "8"]`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        Self(Server::start(&MEMCACHED, args))
    }
}

impl Deref for MemcachedServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// A server process, its port on the loopback interface and its directory.
#[derive(Debug)]
pub struct Server {
    kind: &'static Kind,
    args: Vec<OsString>,
    port: u16,
    process: Mutex<Child>,
    /// Removed when dropped, after the process has ended.
    directory: TempDir,
}

impl Server {
    /// Where it listens, as a client is told: `redis://127.0.0.1:12345`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.kind.scheme, self.addr())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The port it listens on, the same after a [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, another one after a [`restart`](Self::restart).
    pub fn pid(&self) -> u32 {
        self.process().id()
    }

    /// Its working directory: data files, and what it printed in `server.log`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops it in its tracks (SIGSTOP), and waits until every thread of it stands: connections stay open and
    /// get no answer. To be [resumed](Self::resume) before it is paused again.
    ///
    /// # Panics
    /// If the process is gone, or does not stand within ten seconds.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        for _ in 0..LOOKS {
            if self.stands() {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("{} goes on after SIGSTOP", self.kind.program);
    }

    /// Lets it go on after a [`pause`](Self::pause) (SIGCONT).
    ///
    /// # Panics
    /// If the process is gone.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it (SIGKILL) and waits for its end. Its port refuses connections from here on.
    pub fn kill(&self) {
        end(&mut self.process());
    }

    /// Kills it if it runs, and starts it anew on the same port in the same directory.
    ///
    /// # Panics
    /// If it does not answer within ten seconds, or somebody took the port meanwhile.
    pub fn restart(&self) {
        let mut process = self.process();
        end(&mut process);
        for _ in 0..TRIES {
            match launch(self.kind, &self.args, self.port, self.directory.path()) {
                Some(child) => {
                    *process = child;
                    return;
                }
                None => thread::sleep(PAUSE),
            }
        }
        give_up(self.kind, self.directory.path());
    }

    fn start<A: Into<OsString>>(kind: &'static Kind, args: impl IntoIterator<Item = A>) -> Self {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let directory = tempfile::Builder::new()
            .prefix("cachalot-")
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        for _ in 0..TRIES {
            let port = free_port();
            if let Some(child) = launch(kind, &args, port, directory.path()) {
                let process = Mutex::new(child);
                return Self { kind, args, port, process, directory };
            }
        }
        give_up(kind, directory.path())
    }

    fn signal(&self, signal: Signal) {
        let process = self.process();
        kill_process(pid_of(&process), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.kind.program));
    }

    /// Whether it has stopped since the last look. The system says so once, when the last thread has.
    fn stands(&self) -> bool {
        let options = WaitOptions::UNTRACED | WaitOptions::NOHANG;
        let looked = waitpid(Some(pid_of(&self.process())), options);
        let seen = looked.unwrap_or_else(|error| panic!("no {} to wait for: {error}", self.kind.program));
        seen.is_some_and(|(_, status)| status.stopped())
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is different from one program to the next.
#[derive(Debug)]
struct Kind {
    program: &'static str,
    variable: &'static str,
    scheme: &'static str,
    args: fn(port: u16, directory: &Path) -> Vec<OsString>,
    /// Asks whether it serves, and for its process id.
    question: &'static str,
    /// Whether `answer` is the one of process `pid`, ready to serve.
    is_ready: fn(answer: &str, pid: u32) -> bool,
}

static REDIS: Kind = Kind {
    program: "redis-server",
    variable: "CACHALOT_REDIS_SERVER",
    scheme: "redis",
    args: redis_args,
    question: "PING\r\nINFO server\r\n",
    // One that wants a password says no more than that, but it serves.
    is_ready: |answer, pid| {
        answer.contains("-NOAUTH")
            || (answer.contains("+PONG") && answer.contains(&format!("\nprocess_id:{pid}\r")))
    },
};

static MEMCACHED: Kind = Kind {
    program: "memcached",
    variable: "CACHALOT_MEMCACHED",
    scheme: "memcache",
    args: memcached_args,
    question: "stats\r\n",
    is_ready: |answer, pid| answer.contains(&format!("STAT pid {pid}\r")),
};

fn redis_args(port: u16, directory: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(Into::into).into();
    args.extend(["--port".into(), port.to_string().into()]);
    args.extend(["--dir".into(), directory.into()]);
    args
}

fn memcached_args(port: u16, _: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["-l", "127.0.0.1", "-m", "64", "-t", "2"].map(Into::into).into();
    args.extend(["-p".into(), port.to_string().into()]);
    if rustix::process::geteuid().is_root() {
        // It refuses to run as root unless told so.
        args.extend(["-u".into(), "root".into()]);
    }
    args
}

/// How often to look whether it answers, and the pause between two looks: ten seconds in all.
const LOOKS: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(5);
/// How many ports to try, since another process may take one between our look and the server's bind.
const TRIES: u32 = 10;

/// Starts the program on `port` and waits until it answers. `None` if it ended instead, most likely because
/// the port was taken.
fn launch(kind: &Kind, args: &[OsString], port: u16, directory: &Path) -> Option<Child> {
    let log = File::create(directory.join("server.log"));
    let log = log.unwrap_or_else(|error| panic!("no log file in {}: {error}", directory.display()));
    let errors = log.try_clone().unwrap_or_else(|error| panic!("no second handle of the log: {error}"));
    let mut child = Command::new(program(kind))
        .args((kind.args)(port, directory))
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|error| missing(kind, &error.to_string()));
    for _ in 0..LOOKS {
        if !is_running(&mut child) {
            return None;
        }
        if answers(kind, port, child.id()) && is_running(&mut child) {
            return Some(child);
        }
        thread::sleep(PAUSE);
    }
    end(&mut child);
    give_up(kind, directory)
}

fn is_running(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

fn end(child: &mut Child) {
    // Both fail only if it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn answers(kind: &Kind, port: u16, pid: u32) -> bool {
    ask(port, kind.question, |answer| (kind.is_ready)(answer, pid)).unwrap_or(false)
}

/// Sends `question` and reads until `enough`, or until nothing more comes.
fn ask(port: u16, question: &str, enough: impl Fn(&str) -> bool) -> io::Result<bool> {
    let patience = Duration::from_millis(100);
    let mut stream = TcpStream::connect_timeout(&loopback(port), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(question.as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..read]);
        if enough(&String::from_utf8_lossy(&answer)) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
    }
}

/// A port nobody listens on now. Below the range from which systems take the ports of outgoing connections:
/// a client that reconnects to a dead server's port in that range may end up connected to itself.
fn free_port() -> u16 {
    const FIRST: u16 = 11_000;
    const COUNT: u16 = 11_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at once begin at different places.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if TcpListener::bind(loopback(port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The program to run: a missing one is an error, never a skipped test.
fn program(kind: &Kind) -> PathBuf {
    if let Some(named) = env::var_os(kind.variable) {
        return named.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    on_path(kind.program, &path).unwrap_or_else(|| missing(kind, "not on PATH"))
}

fn on_path(program: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn missing(kind: &Kind, why: &str) -> ! {
    panic!(
        "{} is missing ({why}): run `cargo xtask test --install-servers`, or name one in {}",
        kind.program, kind.variable
    )
}

fn give_up(kind: &Kind, directory: &Path) -> ! {
    let log = fs::read_to_string(directory.join("server.log")).unwrap_or_default();
    panic!("{} did not start; it said:\n{log}", kind.program)
}

mod cluster;
pub use cluster::RedisCluster;
#[cfg(test)]
mod tests;
