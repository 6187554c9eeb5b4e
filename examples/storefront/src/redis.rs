//! A Redis server of our own: free port of the loopback interface, nothing kept, gone afterwards.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// A running `redis-server`: the one that `CACHALOT_REDIS_SERVER` names, else the first on `PATH`. Killed when
/// dropped; [`stop`](Self::stop) also waits until it is gone.
#[derive(Debug)]
pub struct Redis {
    server: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is not installed, or does not come up.
    pub async fn start() -> Result<Self> {
        // Between our choice of a port and the server's binding it another program may take it.
        for _ in 0..5 {
            if let Some(redis) = Self::try_start().await? {
                return Ok(redis);
            }
        }
        bail!("redis-server did not come up")
    }

    /// `redis://` and its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Cuts the connection of every subscriber, as a failing network does. How many there were.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn cut_subscribers(&self) -> Result<u64> {
        let answer = ask(self.address, "CLIENT KILL TYPE pubsub").await?;
        let count = answer.lines().find_map(|line| line.strip_prefix(':')?.parse().ok());
        count.with_context(|| format!("redis-server answers {answer:?}"))
    }

    /// Ends the server and waits for its end. There is nothing to save.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn stop(mut self) -> io::Result<()> {
        self.server.kill().await
    }

    async fn try_start() -> Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let address = free_address().await?;
        let program = std::env::var_os("CACHALOT_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--maxmemory", "256mb"])
            .args(["--maxmemory-policy", "allkeys-lru"])
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        // Ctrl-C goes to us alone; we stop the server when its clients are gone.
        #[cfg(unix)]
        command.process_group(0);
        let server = command.spawn().map_err(explain)?;
        let mut redis = Self { server, address, _directory: directory };
        let up =
            timeout(Duration::from_secs(10), redis.up()).await.context("redis-server does not answer")?;
        Ok(up.then_some(redis))
    }

    /// Waits for the first answer; false when the server ended instead.
    async fn up(&mut self) -> bool {
        while matches!(self.server.try_wait(), Ok(None)) {
            if let (Ok(info), Some(pid)) = (ask(self.address, INFO).await, self.server.id())
                && info.contains(&format!("process_id:{pid}\r\n"))
            {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

/// What the server says of itself; names its process, so that we know ours.
const INFO: &str = "INFO server";

/// Below the range from which systems take the ports of outgoing connections: there a client that reconnects to a
/// dead server may end up connected to itself.
async fn free_address() -> Result<SocketAddr> {
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(11_000..22_000)));
        if TcpListener::bind(address).await.is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port")
}

/// What the server answers to a command on a connection of its own.
async fn ask(address: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn explain(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!(
            "redis-server is not installed, and CACHALOT_REDIS_SERVER names none: get it from your package \
             manager (apt install redis-server, brew install redis), or run without --redis"
        ),
        _ => anyhow::Error::new(error).context("starting redis-server"),
    }
}
