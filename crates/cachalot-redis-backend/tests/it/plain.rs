//! The layout `plain`: what others find, and what of what they leave is found here.

mod conformance;
mod enveloped;
mod messages;
mod values;

use std::time::Duration;

use cachalot_core::codec::Json;
use cachalot_core::envelope::{self, Header, Tagged};
use cachalot_core::{Backend, Codec, Entropy, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Token};
use cachalot_redis_backend::{PlainBackend, PlainForm};
use cachalot_testkit::RedisServer;

use crate::support::{patient, raw, token};

const TERM: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_secs(60);

struct Plain {
    backend: PlainBackend,
    redis: redis::Connection,
    server: RedisServer,
    key: Key,
}

impl Plain {
    async fn start(form: PlainForm) -> Self {
        Self::on(RedisServer::start(), form).await
    }

    async fn on(server: RedisServer, form: PlainForm) -> Self {
        let backend = patient(server.url()).plain().form(form).connect().await.unwrap();
        Self { backend, redis: raw(&server), server, key: Key::new("user:1") }
    }

    /// A command of a foreigner.
    fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.redis).unwrap()
    }

    fn set(&mut self, text: &str) {
        self.ask(&["SETEX", "user:1", "60", text])
    }

    /// What lies under the key.
    fn text(&mut self) -> Option<String> {
        self.ask(&["GET", "user:1"])
    }

    /// The value as a cache reads it.
    async fn read(&self) -> Option<String> {
        let record = self.backend.get(&self.key).await.unwrap()?;
        let opened = envelope::open(&self.key, &record.payload).unwrap();
        (opened.header.codec == 2).then(|| String::from_utf8_lossy(opened.value).into_owned())
    }

    async fn lease(&self, token: Token) -> LeaseReply {
        self.backend.get_or_lease(&self.key, token, TERM, None).await.unwrap()
    }

    async fn put(&self, token: Token, put: Put) -> PutReply {
        self.backend.put_leased(&self.key, token, put).await.unwrap()
    }

    /// Stores `value` the way a loader does.
    async fn store(&self, value: &str, tags: &[Tagged]) -> PutReply {
        let token = token();
        assert!(matches!(self.lease(token).await, LeaseReply::Lease { .. }));
        self.put(token, put(&self.key, value, tags)).await
    }
}

/// As a cache with the codec JSON makes it: fresh for a minute, to be kept for two.
fn put(key: &Key, value: &str, tags: &[Tagged]) -> Put {
    put_by(&Json, key, value, tags)
}

fn put_by(codec: &dyn Codec<String>, key: &Key, value: &str, tags: &[Tagged]) -> Put {
    let header = Header {
        codec: codec.id(),
        schema: 0,
        negative: false,
        fresh_for: TTL,
        kept_for: 2 * TTL,
        compute_time: Duration::from_millis(250),
        version: 0,
    };
    let payload = envelope::encode(key, header, tags, Some(&value.to_owned()), codec).unwrap();
    Put { payload, nonce: Nonce::draw(&Entropy::thread()), ttl: 2 * TTL }
}
