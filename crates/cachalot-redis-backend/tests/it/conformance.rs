//! The contract of a backend, sentence by sentence.

use cachalot_testkit::{BackendSubject, RedisServer, backend_suite};

use crate::support::connect;

async fn subject() -> BackendSubject {
    let server = RedisServer::start();
    BackendSubject::real(connect(server.url()).await.unwrap()).keeping(server)
}

backend_suite!(redis, subject);
