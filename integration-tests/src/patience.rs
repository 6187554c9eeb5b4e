//! Redis where an answer is expected, however busy the machine is.

use std::time::Duration;

use cachalot::{Redis, RedisBackend, RedisBuilder};
use cachalot_testkit::RedisServer;

/// Settings for the server at `url` with more time than any command takes beside other tests: one that is merely slow must
/// not count as an outage.
pub fn patient(url: impl Into<String>) -> RedisBuilder {
    Redis::builder(url).deadline(Duration::from_secs(60))
}

/// Connects to `server` with [`patient`] settings.
pub async fn connect(server: &RedisServer) -> RedisBackend {
    patient(server.url()).connect().await.unwrap()
}
