//! The contract of a backend, sentence by sentence.

use std::time::Duration;

use cachalot_redis_backend::Redis;
use cachalot_testkit::{BackendSubject, RedisServer, backend_suite};

async fn subject() -> BackendSubject {
    let server = RedisServer::start();
    let backend = Redis::builder(server.url()).deadline(Duration::from_secs(30));
    BackendSubject::real(backend.connect().await.unwrap()).keeping(server)
}

backend_suite!(redis, subject);
