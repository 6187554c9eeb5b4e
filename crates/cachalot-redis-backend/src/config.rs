//! How to reach a server, and the limits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use cachalot_core::{Clock, Entropy, Error, ErrorKind, Result};
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use crate::incarnation::{Incarnation, Recovery};
use crate::link::Setup;
use crate::{PlainBuilder, RedisBackend, RedisBusBuilder, RedisCluster};

/// Redis as a shared tier: the door to a [`RedisBackend`].
#[derive(Debug)]
pub enum Redis {}

impl Redis {
    /// Connects to the server at `url` with the usual settings. As [`Redis::builder`] and
    /// [`RedisBuilder::connect`].
    ///
    /// # Errors
    /// As [`RedisBuilder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<RedisBackend> {
        Self::builder(url).connect().await
    }

    /// The backend for the server at `url`, which need not be there yet. As [`Redis::builder`] and
    /// [`RedisBuilder::connect_lazy`].
    ///
    /// # Errors
    /// As [`RedisBuilder::connect_lazy`].
    pub fn connect_lazy(url: impl Into<String>) -> Result<RedisBackend> {
        Self::builder(url).connect_lazy()
    }

    /// Settings for the server at `url`: `redis://[user][:password@]host[:port][/database]` or
    /// `redis+unix:///path/of/socket`. Redis 6 or newer; an older one, or a proxy that knows no RESP3, needs
    /// `?protocol=resp2`, and then a lost connection is noticed only by the next command. There is no TLS yet:
    /// `rediss://` is refused.
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder {
            url: url.into(),
            deadline: Duration::from_millis(500),
            connections: 2,
            key_prefix: String::new(),
            max_payload: 16 << 20,
            recovery: Recovery::default(),
            node: None,
            asks: false,
            count: None,
            clock: Clock::system(),
            entropy: Entropy::thread(),
        }
    }
}

/// Settings of a [`RedisBackend`]. Its `Debug` shows no credentials.
#[derive(Clone)]
#[must_use = "settings do nothing until connected"]
pub struct RedisBuilder {
    url: String,
    deadline: Duration,
    connections: usize,
    key_prefix: String,
    max_payload: usize,
    recovery: Recovery,
    /// One of a cluster, in place of that of the URL.
    node: Option<Address>,
    asks: bool,
    /// Of incarnations, if it is shared.
    count: Option<Arc<AtomicU64>>,
    clock: Clock,
    entropy: Entropy,
}

impl RedisBuilder {
    /// How long any call may take in all, connecting included, before it fails with
    /// [`ErrorKind::Timeout`]. Default 500 ms: far above what a healthy server needs, far below what a
    /// caller forgives. At least a millisecond.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many connections carry reads, each used when those before it are crowded. One more carries scripts,
    /// by which all is written, and reads of more than 256 keys at once, so that other reads do not queue up
    /// behind these. A large value that is read does keep those waiting that share its connection. Default 2;
    /// from 1 to 64. Each is made when first needed. Concurrent reads on one connection share commands, so
    /// more rarely helps.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// What every key in the server begins with: `shop:`. Default empty. Part of a cache's identity: caches
    /// that are to share values need the same one.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// The largest payload that is stored, in bytes; a larger one is refused with [`ErrorKind::Config`]
    /// before anything is sent. Default 16 MiB; at most 511 MiB, what Redis can hold.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// What becomes of what is stored when the server has forgotten some of what it acknowledged. Default
    /// [`Recovery::Replay`]. All processes that share values need the same.
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// The clock to reckon ages and pauses by. Default [`Clock::system`]. Deadlines run by tokio's time.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What spreads the pauses between attempts to connect. Default [`Entropy::thread`].
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Connects, and fails if the server cannot be reached within the deadline, so that a wrong address is
    /// noticed at the start. Later the backend reconnects by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not acceptable, [`ErrorKind::Unavailable`] if the server cannot
    /// be reached or refuses the credentials, [`ErrorKind::Timeout`] if it does not answer.
    pub async fn connect(self) -> Result<RedisBackend> {
        let backend = self.connect_lazy()?;
        backend.reach().await?;
        Ok(backend)
    }

    /// The backend without a connection: the first command makes it. For services that are to start
    /// whether or not the server is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not acceptable.
    pub fn connect_lazy(self) -> Result<RedisBackend> {
        let (setup, node) = self.setup(self.recovery)?;
        let limits = Limits { key_prefix: self.key_prefix.into_bytes(), max_payload: self.max_payload };
        Ok(RedisBackend::new(setup, self.connections, limits, node))
    }

    /// The cluster of which the URL names a node, as [`connect`](RedisBuilder::connect) does one server. See
    /// [`RedisCluster`].
    ///
    /// # Errors
    /// As [`connect`](RedisBuilder::connect), if none of the nodes named can be reached.
    pub async fn connect_cluster<U: Into<String>>(
        self,
        others: impl IntoIterator<Item = U>,
    ) -> Result<RedisCluster> {
        let cluster = self.connect_cluster_lazy(others)?;
        cluster.reach().await?;
        Ok(cluster)
    }

    /// The cluster of which the URL names a node, and `others` more, in case that one is away; no connection is made
    /// yet. What is set counts for each node; credentials are those of the URL.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not acceptable, or a node is not named by host and port.
    pub fn connect_cluster_lazy<U: Into<String>>(
        self,
        others: impl IntoIterator<Item = U>,
    ) -> Result<RedisCluster> {
        RedisCluster::new(self, others.into_iter().map(Into::into).collect())
    }

    /// Settings of a bus on this server, with connections of its own. URL, deadline, key prefix, clock and
    /// entropy are these; the rest counts for nothing.
    pub fn bus(self) -> RedisBusBuilder {
        RedisBusBuilder::new(self)
    }

    /// Settings of the layout `plain`: values as JSON under bare keys, shared with services in other languages that
    /// follow the common recipe. See [`PlainBackend`](crate::PlainBackend).
    pub fn plain(self) -> PlainBuilder {
        PlainBuilder::new(self)
    }

    /// Settings for another node with the same credentials.
    pub(crate) fn at(&self, node: Address) -> Self {
        Self { node: Some(node), ..self.clone() }
    }

    pub(crate) fn with_url(self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self }
    }

    pub(crate) fn counting(self, count: Arc<AtomicU64>) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Where the URL leads to.
    pub(crate) fn address(&self) -> Result<Address> {
        match connection_info(&self.url)?.addr() {
            ConnectionAddr::Tcp(host, port) => Ok(Address { host: host.clone(), port: *port }),
            _ => Err(config("the nodes of a cluster are reached by host and port")),
        }
    }

    /// Settings for what is on its way to a node.
    pub(crate) fn asking(mut self) -> Self {
        self.asks = true;
        self.connections = 1;
        self
    }

    pub(crate) fn for_cluster(&self) -> (Duration, Vec<u8>, usize, Clock) {
        (self.deadline, self.key_prefix.clone().into_bytes(), self.max_payload, self.clock.clone())
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { key_prefix: self.key_prefix.clone().into_bytes(), max_payload: self.max_payload }
    }

    pub(crate) fn entropy_given(&self) -> &Entropy {
        &self.entropy
    }

    pub(crate) fn recovery_wanted(&self) -> Recovery {
        self.recovery
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections
    }

    pub(crate) fn prefixed(&self, name: &str) -> Vec<u8> {
        [self.key_prefix.as_bytes(), name.as_bytes()].concat()
    }

    /// What connections are made by, and where to.
    pub(crate) fn setup(&self, recovery: Recovery) -> Result<(Setup, String)> {
        self.check()?;
        let mut info = connection_info(&self.url)?;
        if let Some(Address { host, port }) = self.node.clone() {
            info = info.set_addr(ConnectionAddr::Tcp(host, port));
        }
        let node = node(info.addr());
        let resp3 = info.redis_settings().protocol() != ProtocolVersion::RESP2;
        let client = Client::open(info).map_err(|error| config(error.category().to_owned()))?;
        let setup = Setup {
            client,
            resp3,
            deadline: self.deadline,
            asks: self.asks,
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            made: Arc::default(),
            incarnation: Arc::new(Incarnation::new(recovery, self.count.clone().unwrap_or_default())),
        };
        Ok((setup, node))
    }

    fn check(&self) -> Result<()> {
        if self.deadline < Duration::from_millis(1) {
            return Err(config("the deadline must be at least 1 ms"));
        }
        if !(1..=64).contains(&self.connections) {
            return Err(config("there must be 1 to 64 connections"));
        }
        if self.key_prefix.len() > MAX_PREFIX {
            return Err(config("the key prefix must not exceed 128 bytes"));
        }
        if self.max_payload > MAX_PAYLOAD {
            return Err(config("payloads cannot exceed 511 MiB"));
        }
        Ok(())
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = connection_info(&self.url).map_or_else(|_| String::from("?"), |info| node(info.addr()));
        f.debug_struct("RedisBuilder")
            .field("node", &node)
            .field("deadline", &self.deadline)
            .field("connections", &self.connections)
            .field("key_prefix", &self.key_prefix)
            .field("max_payload", &self.max_payload)
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

/// Host and port of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// As `Display` writes it.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

const MAX_PREFIX: usize = 128;
/// Redis' own bound on a string is 512 MiB, our header included.
const MAX_PAYLOAD: usize = 511 << 20;

/// What a backend stores how.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) key_prefix: Vec<u8>,
    pub(crate) max_payload: usize,
}

pub(crate) fn config(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "redis connect").detail(detail)
}

fn connection_info(url: &str) -> Result<ConnectionInfo> {
    // The crate's own words may quote the URL, and with it a password.
    let unreadable =
        |_| config("the URL is not of the form redis://[user][:password@]host[:port][/database]");
    let info = url.into_connection_info().map_err(unreadable)?;
    let mut settings = info.redis_settings().clone();
    if !url.contains("protocol=resp2") {
        settings = settings.set_protocol(ProtocolVersion::RESP3);
    }
    let tcp = TcpSettings::default().set_nodelay(true);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

/// Where the server is, without credentials.
fn node(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            format!("{host}:{port}")
        }
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => String::from("?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2";

    #[test]
    fn credentials_are_in_no_debug_and_no_error() {
        let urls = [
            format!("redis://user:{SECRET}@10.0.0.3:6380/2"),
            format!("redis://:{SECRET}@[::1"),
            format!("rediss://user:{SECRET}@10.0.0.3:6380"),
            format!("nonsense:{SECRET}"),
        ];
        for url in urls {
            let builder = Redis::builder(&url);
            let mut seen = format!("{builder:?}");
            match builder.connect_lazy() {
                Ok(backend) => seen.push_str(&format!("{backend:?}")),
                Err(error) => seen.push_str(&format!("{error} {error:?}")),
            }
            assert!(!seen.contains(SECRET), "{seen}");
        }
    }

    #[test]
    fn the_node_is_host_and_port() {
        let node_of = |url: &str| node(connection_info(url).unwrap().addr());
        assert_eq!(node_of("redis://user:pw@10.0.0.3:6380/2"), "10.0.0.3:6380");
        assert_eq!(node_of("redis://localhost"), "localhost:6379");
        assert_eq!(node_of("redis+unix:///run/redis.sock"), "/run/redis.sock");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let builder = || Redis::builder("redis://localhost");
        let wrong = [
            builder().deadline(Duration::ZERO),
            builder().connections(0),
            builder().connections(65),
            builder().key_prefix("x".repeat(129)),
            builder().max_payload(512 << 20),
            Redis::builder("http://localhost"),
            Redis::builder("rediss://localhost"),
        ];
        for settings in wrong {
            let text = format!("{settings:?}");
            assert_eq!(settings.connect_lazy().unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
    }
}
