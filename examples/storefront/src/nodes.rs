//! The service as processes of their own: this program again, told to serve.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::args::{CacheChoice, NodeArgs};
use crate::catalog::{Catalog, Shared};
use crate::client::Client;
use crate::pages::{Pages, Stats};
use crate::service;
use crate::shop::Database;

const PATIENCE: Duration = Duration::from_secs(10);

/// A process that serves the shop. Killed when dropped; [`stop`](Self::stop) lets it finish.
#[derive(Debug)]
pub struct Node {
    process: Child,
    /// The process serves as long as this is open: it ends even if we are killed.
    leash: ChildStdin,
    client: Arc<Client>,
}

impl Node {
    /// Starts a process and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up; its reason is on standard error.
    pub async fn start(database: &Path, cache: &CacheChoice, journal: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("serve-node")
            .arg("--database")
            .arg(database)
            .args(["--cache", &cache.to_string(), "--journal"])
            .arg(journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C goes to us alone; we stop the node when its callers are gone.
        #[cfg(unix)]
        command.process_group(0);
        let mut process = command.spawn().context("starting a service process")?;
        let leash = process.stdin.take().context("a service process without a standard input")?;
        let stdout = process.stdout.take().context("a service process without a standard output")?;
        let mut line = String::new();
        timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line))
            .await
            .context("a service process does not come up")??;
        let address = line.trim().parse().context("a service process ended before it served")?;
        let client = Arc::new(Client::connect(address).await?);
        Ok(Self { process, leash, client })
    }

    /// Connections to it.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// What it has counted so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stats(&self) -> Result<Stats> {
        self.client.get("/stats").await?.json()
    }

    /// Kills it (SIGKILL): whatever it is doing is not done any further.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(mut self) -> io::Result<()> {
        self.process.kill().await
    }

    /// Lets it finish the requests in hand and waits for its end; kills it after ten seconds.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn stop(self) -> io::Result<()> {
        let Self { mut process, leash, client } = self;
        drop((leash, client));
        match timeout(PATIENCE, process.wait()).await {
            Ok(ended) => ended.map(|_| ()),
            Err(_) => process.kill().await,
        }
    }
}

/// The other side of [`Node::start`]: serves on a free port, tells it on standard output, and ends with
/// standard input.
///
/// # Errors
/// When the database or the cache cannot be opened, or what the cache still has to do cannot be done.
pub async fn serve(args: &NodeArgs) -> Result<()> {
    let pages = open(args).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    tell(listener.local_addr()?).await?;
    service::serve(listener, pages.clone(), end_of_input()).await?;
    pages.shutdown().await.context("stopping the caches")
}

async fn open(args: &NodeArgs) -> Result<Pages> {
    let database = Database::open(&args.database)?;
    Ok(match &args.cache {
        CacheChoice::Off => Pages::Direct(database),
        CacheChoice::Memory => cached(Catalog::new(database, None)?, &args.journal).await?,
        CacheChoice::Redis(url) => {
            let shared = Shared::connect(url).await?;
            cached(Catalog::new(database, Some(shared))?, &args.journal).await?
        }
    })
}

async fn cached(catalog: Catalog, journal: &Path) -> Result<Pages> {
    let catalog = catalog.journaled(journal).await.context("opening the journal of views")?;
    Ok(Pages::Cached(Arc::new(catalog)))
}

async fn tell(address: SocketAddr) -> io::Result<()> {
    let mut stdout = tokio::io::stdout();
    stdout.write_all(format!("{address}\n").as_bytes()).await?;
    stdout.flush().await
}

async fn end_of_input() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(n) if n > 0) {}
}
