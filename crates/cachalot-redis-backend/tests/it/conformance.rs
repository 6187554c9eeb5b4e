//! The contract of a backend, sentence by sentence.

use cachalot_redis_backend::Recovery;
use cachalot_testkit::{BackendSubject, RedisServer, backend_suite};

use crate::support::{connect, patient};

async fn subject() -> BackendSubject {
    let server = RedisServer::start();
    BackendSubject::real(connect(server.url()).await.unwrap()).keeping(server)
}

backend_suite!(redis, subject);

async fn strict_subject() -> BackendSubject {
    let server = RedisServer::start();
    let backend = patient(server.url()).recovery(Recovery::Era).connect().await.unwrap();
    BackendSubject::real(backend).keeping(server)
}

backend_suite!(redis_with_eras, strict_subject);
