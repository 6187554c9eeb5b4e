//! A server, a backend on it, and a second way in.

use std::time::Duration;

use cachalot_core::{
    Backend, Entropy, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Record, Result, Token,
};
use cachalot_redis_backend::{Redis, RedisBackend, RedisBuilder};
use cachalot_testkit::RedisServer;

pub(crate) const TERM: Duration = Duration::from_secs(5);
pub(crate) const TTL: Duration = Duration::from_secs(60);

pub(crate) struct Fixture {
    pub(crate) backend: RedisBackend,
    pub(crate) server: RedisServer,
    pub(crate) key: Key,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let server = RedisServer::start();
        let backend = connect(server.url()).await.unwrap();
        Self { backend, server, key: Key::new("users:1") }
    }

    /// A connection of the redis crate, as a foreigner would use.
    pub(crate) fn raw(&self) -> redis::Connection {
        raw(&self.server)
    }

    /// Milliseconds until the record ends; -1: never, -2: there is none.
    pub(crate) fn pttl(&self) -> i64 {
        redis::cmd("PTTL").arg(self.key.as_bytes()).query(&mut self.raw()).unwrap()
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

    pub(crate) async fn put_held(&self, token: Token, put: Put) -> PutReply {
        self.backend.put_held(&self.key, token, put).await.unwrap()
    }

    pub(crate) async fn hold(&self, token: Token) -> cachalot_core::Held {
        self.backend.hold(&self.key, token, TERM).await.unwrap()
    }

    /// Stores `payload` the way a loader does.
    pub(crate) async fn store(&self, payload: &'static str) -> Nonce {
        self.store_for(payload, TTL).await
    }

    pub(crate) async fn store_for(&self, payload: &'static str, ttl: Duration) -> Nonce {
        let (token, put) = (token(), put_for(payload, ttl));
        let nonce = put.nonce;
        assert_eq!(self.lease(token).await, LeaseReply::Lease { stale: None });
        assert_eq!(self.put_leased(token, put).await, PutReply::Stored);
        nonce
    }

    pub(crate) async fn read(&self) -> Option<Record> {
        self.backend.get(&self.key).await.unwrap()
    }

    pub(crate) async fn read_by_batch(&self) -> Option<Record> {
        let keys = std::slice::from_ref(&self.key);
        self.backend.get_many(keys).await.remove(0).unwrap()
    }
}

/// Settings for where an answer is expected: with more time than it takes on a machine that is busy with other
/// tests.
pub(crate) fn patient(url: impl Into<String>) -> RedisBuilder {
    Redis::builder(url).deadline(Duration::from_secs(30))
}

/// Connects with [`patient`] settings.
pub(crate) async fn connect(url: impl Into<String>) -> Result<RedisBackend> {
    patient(url).connect().await
}

pub(crate) fn raw(server: &RedisServer) -> redis::Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

pub(crate) fn token() -> Token {
    Token::draw(&Entropy::thread())
}

pub(crate) fn put(payload: &'static str) -> Put {
    put_for(payload, TTL)
}

pub(crate) fn put_for(payload: &'static str, ttl: Duration) -> Put {
    Put { payload: payload.into(), nonce: Nonce::draw(&Entropy::thread()), ttl }
}

pub(crate) fn is_lease(reply: &LeaseReply) -> bool {
    matches!(reply, LeaseReply::Lease { .. })
}

pub(crate) fn stale(reply: LeaseReply) -> Option<Record> {
    match reply {
        LeaseReply::Lease { stale } | LeaseReply::Busy { stale, .. } => stale,
        LeaseReply::Hit(_) => None,
    }
}
