//! A server, a backend on it, a second way in, and a way that can be cut.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachalot_core::{Backend, Entropy, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Record, Token};
use cachalot_memcached_backend::{Memcached, MemcachedBackend, MemcachedBuilder};
use cachalot_testkit::MemcachedServer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// More than any call may take, on a machine that is busy with other tests.
pub(crate) const AGES: Duration = Duration::from_secs(60);
pub(crate) const TERM: Duration = Duration::from_secs(20);
pub(crate) const TTL: Duration = Duration::from_secs(600);

pub(crate) struct Fixture {
    pub(crate) backend: MemcachedBackend,
    pub(crate) server: MemcachedServer,
    pub(crate) key: Key,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let server = MemcachedServer::start();
        let backend = patient(server.url()).connect().await.unwrap();
        Self { backend, server, key: Key::new("users:1") }
    }

    /// What the server answers to `commands`, but for the end.
    pub(crate) fn raw(&self, commands: &str) -> String {
        raw(self.server.addr(), commands)
    }

    /// Another process.
    pub(crate) async fn another(&self) -> MemcachedBackend {
        patient(self.server.url()).connect().await.unwrap()
    }

    pub(crate) async fn lease(&self, token: Token) -> LeaseReply {
        self.lease_refusing(token, None).await
    }

    pub(crate) async fn lease_refusing(&self, token: Token, refuse: Option<Nonce>) -> LeaseReply {
        self.backend.get_or_lease(&self.key, token, TERM, refuse).await.unwrap()
    }

    pub(crate) async fn put_leased(&self, token: Token, put: Put) -> PutReply {
        self.backend.put_leased(&self.key, token, put).await.unwrap()
    }

    pub(crate) async fn read(&self) -> Option<Record> {
        self.backend.get(&self.key).await.unwrap()
    }

    /// Stores `payload` the way a loader does.
    pub(crate) async fn store(&self, payload: &'static str) -> Nonce {
        let (owner, put) = (token(), put(payload));
        assert!(matches!(self.lease(owner).await, LeaseReply::Lease { .. }));
        let nonce = put.nonce;
        assert_eq!(self.put_leased(owner, put).await, PutReply::Stored);
        nonce
    }
}

/// Settings for tests in which nothing is to end by a deadline.
pub(crate) fn patient(url: impl Into<String>) -> MemcachedBuilder {
    Memcached::builder(url).deadline(AGES / 2)
}

pub(crate) fn token() -> Token {
    Token::draw(&Entropy::thread())
}

pub(crate) fn put(payload: &'static str) -> Put {
    Put { payload: payload.into(), nonce: Nonce::draw(&Entropy::thread()), ttl: TTL }
}

pub(crate) fn raw(addr: SocketAddr, commands: &str) -> String {
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(AGES)).unwrap();
    stream.write_all(commands.as_bytes()).unwrap();
    stream.write_all(b"mn\r\n").unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"MN\r\n") {
        let read = stream.read(&mut part).unwrap();
        assert_ne!(read, 0, "the server closed it after {answer:?}");
        answer.extend_from_slice(&part[..read]);
    }
    answer.truncate(answer.len() - 4);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Repeats `attempt` until it gives something.
pub(crate) async fn eventually<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let work = async {
        loop {
            if let Some(given) = attempt().await {
                return given;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, work).await.expect("it never came to it")
}

/// Calls until the server answers.
pub(crate) async fn recovered(backend: &MemcachedBackend) {
    eventually(async || backend.get(&Key::new("recovered")).await.ok()).await;
}

/// A way to a server that can be cut.
pub(crate) struct Relay {
    addr: SocketAddr,
    /// Where the next connection leads.
    server: Arc<Mutex<SocketAddr>>,
    ways: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepts: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ways: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let known = ways.clone();
        let server = Arc::new(Mutex::new(server));
        let target = server.clone();
        let accepts = tokio::spawn(async move {
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                let server = *target.lock().unwrap();
                let way = tokio::spawn(async move {
                    let mut there = TcpStream::connect(server).await.unwrap();
                    let _ = copy_bidirectional(&mut here, &mut there).await;
                });
                known.lock().unwrap().push(way);
            }
        });
        Self { addr, server, ways, accepts }
    }

    pub(crate) fn url(&self) -> String {
        format!("memcache://{}", self.addr)
    }

    /// Has new connections lead elsewhere; those there are stay.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
    }

    /// Cuts all connections there are. New ones may be made.
    pub(crate) async fn cut(&self) {
        let ways: Vec<_> = self.ways.lock().unwrap().drain(..).collect();
        for way in ways {
            way.abort();
            let _ = way.await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}
