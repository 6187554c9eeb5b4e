//! How to reach a server, and the limits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use cachalot_core::{Clock, Entropy, Error, ErrorKind, Result};

use crate::MemcachedBackend;
use crate::link::Setup;
use crate::meeting::Incarnation;
use crate::stream::Address;

/// Memcached as a shared tier: the door to a [`MemcachedBackend`].
#[derive(Debug)]
pub enum Memcached {}

impl Memcached {
    /// Connects to the server at `url` with the usual settings. As [`Memcached::builder`] and
    /// [`MemcachedBuilder::connect`].
    ///
    /// # Errors
    /// As [`MemcachedBuilder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<MemcachedBackend> {
        Self::builder(url).connect().await
    }

    /// The backend for the server at `url`, which need not be there yet. As [`Memcached::builder`] and
    /// [`MemcachedBuilder::connect_lazy`].
    ///
    /// # Errors
    /// As [`MemcachedBuilder::connect_lazy`].
    pub fn connect_lazy(url: impl Into<String>) -> Result<MemcachedBackend> {
        Self::builder(url).connect_lazy()
    }

    /// Settings for the server at `url`: `memcache://host[:port]` (port 11211 if none is given), or
    /// `memcache+unix:///path/of/socket`. Memcached 1.6.10 or newer (tried with 1.6.18), with CAS, which is on
    /// unless it was started with `-C`.
    /// There is neither TLS nor a password.
    pub fn builder(url: impl Into<String>) -> MemcachedBuilder {
        MemcachedBuilder {
            url: url.into(),
            deadline: Duration::from_millis(500),
            connections: 2,
            key_prefix: String::new(),
            max_payload: None,
            clock: Clock::system(),
            entropy: Entropy::thread(),
        }
    }
}

/// Settings of a [`MemcachedBackend`].
#[derive(Clone)]
#[must_use = "settings do nothing until connected"]
pub struct MemcachedBuilder {
    url: String,
    deadline: Duration,
    connections: usize,
    key_prefix: String,
    max_payload: Option<usize>,
    clock: Clock,
    entropy: Entropy,
}

impl MemcachedBuilder {
    /// How long any call may take in all, connecting included, before it fails with [`ErrorKind::Timeout`]. Default
    /// 500 ms: far above what a healthy server needs, far below what a caller forgives. At least a millisecond.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many connections there are. Reads use each when those before it are crowded, all else uses them in turn.
    /// Default 2; from 1 to 64. Each is made when first needed. Concurrent reads on one connection share a batch, so
    /// more rarely helps, but for large values, which keep those waiting that come after them.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// What every key in the server begins with: `shop:`. Default empty; at most 100 bytes. Part of a cache's identity:
    /// caches that are to share values need the same one.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// The largest payload that is stored, in bytes; a larger one is refused with [`ErrorKind::Config`], and what was
    /// there is gone. Default: what the server keeps, 512 bytes less than its `-I`, which is 1 MiB unless told otherwise.
    /// Never more than that.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = Some(bytes);
        self
    }

    /// The clock to reckon pauses and the ends of leases by. Default [`Clock::system`]. Deadlines run by tokio's time.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What spreads the pauses between attempts to connect. Default [`Entropy::thread`].
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Connects, and fails if the server cannot be reached within the deadline, so that a wrong address is noticed at
    /// the start. Later the backend reconnects by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not acceptable, [`ErrorKind::Unavailable`] if the server cannot be reached
    /// or is none that can be used, [`ErrorKind::Timeout`] if it does not answer.
    pub async fn connect(self) -> Result<MemcachedBackend> {
        let backend = self.connect_lazy()?;
        backend.reach().await?;
        Ok(backend)
    }

    /// The backend without a connection: the first command makes it. For services that are to start whether or not the
    /// server is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not acceptable.
    pub fn connect_lazy(self) -> Result<MemcachedBackend> {
        self.check()?;
        let address = address(&self.url)?;
        let node = node(&address);
        let setup = Setup {
            address,
            deadline: self.deadline,
            longest_payload: self.max_payload.unwrap_or(usize::MAX),
            clock: self.clock,
            entropy: self.entropy,
            made: AtomicU64::new(0),
            incarnation: Incarnation::default(),
        };
        Ok(MemcachedBackend::new(Arc::new(setup), self.connections, self.key_prefix.into_bytes(), node))
    }

    fn check(&self) -> Result<()> {
        if self.deadline < Duration::from_millis(1) {
            return Err(config("the deadline must be at least 1 ms"));
        }
        if !(1..=64).contains(&self.connections) {
            return Err(config("there must be 1 to 64 connections"));
        }
        if self.key_prefix.len() > MAX_PREFIX {
            return Err(config("the key prefix must not exceed 100 bytes"));
        }
        Ok(())
    }
}

impl fmt::Debug for MemcachedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = address(&self.url).map_or_else(|_| String::from("?"), |address| node(&address));
        f.debug_struct("MemcachedBuilder")
            .field("node", &node)
            .field("deadline", &self.deadline)
            .field("connections", &self.connections)
            .field("key_prefix", &self.key_prefix)
            .field("max_payload", &self.max_payload)
            .finish_non_exhaustive()
    }
}

const MAX_PREFIX: usize = 100;
const USUAL_PORT: u16 = 11211;

fn config(detail: &'static str) -> Error {
    Error::new(ErrorKind::Config, "memcached connect").detail(detail)
}

fn address(url: &str) -> Result<Address> {
    const UNREADABLE: &str = "the URL is not of the form memcache://host[:port] or memcache+unix:///path";
    if let Some(path) = url.strip_prefix("memcache+unix://") {
        let is_path = path.starts_with('/') && path.len() > 1;
        return if is_path { Ok(Address::Unix(path.into())) } else { Err(config(UNREADABLE)) };
    }
    let place = url.strip_prefix("memcache://").ok_or_else(|| config(UNREADABLE))?;
    let place = place.strip_suffix('/').unwrap_or(place);
    let (host, port) = match place.rsplit_once(':') {
        // The colons of an IPv6 address lie within brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| config(UNREADABLE))?),
        _ => (place, USUAL_PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '@', '?', '#', '[', ']', ' ']),
    };
    if !is_host {
        return Err(config(UNREADABLE));
    }
    Ok(Address::Tcp(bare.unwrap_or(host).to_owned(), port))
}

fn node(address: &Address) -> String {
    match address {
        Address::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp(host, port) => format!("{host}:{port}"),
        Address::Unix(path) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_host_and_port() {
        for (url, named) in [
            ("memcache://localhost", "localhost:11211"),
            ("memcache://10.0.0.3:7/", "10.0.0.3:7"),
            ("memcache://[::1]:7", "[::1]:7"),
            ("memcache://[::1]", "[::1]:11211"),
            ("memcache+unix:///run/memcached.sock", "/run/memcached.sock"),
        ] {
            assert_eq!(node(&address(url).unwrap()), named, "{url}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let builder = || Memcached::builder("memcache://localhost");
        let wrong = [
            builder().deadline(Duration::ZERO),
            builder().connections(0),
            builder().connections(65),
            builder().key_prefix("x".repeat(101)),
            Memcached::builder("redis://localhost"),
            Memcached::builder("memcache://"),
            Memcached::builder("memcache://:11211"),
            Memcached::builder("memcache://localhost:port"),
            Memcached::builder("memcache://user:pw@localhost:1"),
            Memcached::builder("memcache://::1:7"),
            Memcached::builder("memcache+unix://relative"),
        ];
        for settings in wrong {
            let text = settings.url.clone();
            assert_eq!(settings.connect_lazy().unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
    }
}
