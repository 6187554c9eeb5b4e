//! The contract of a backend, sentence by sentence.

use std::time::Duration;

use cachalot_memcached_backend::Memcached;
use cachalot_testkit::{BackendSubject, MemcachedServer, backend_suite};

/// Lives are counted in whole seconds, and the first may end at once.
const SHORT: Duration = Duration::from_secs(2);
/// Terms last a second longer than asked, so that none ends early.
const LATE: Duration = Duration::from_secs(1);

/// Patient, and with room for a payload of a megabyte.
async fn subject() -> BackendSubject {
    let server = MemcachedServer::start_with(["-I", "4m"]);
    let builder = Memcached::builder(server.url()).deadline(Duration::from_secs(30));
    let backend = builder.connect().await.unwrap();
    BackendSubject::real(backend).lasting(SHORT).ending_late(LATE).without_sweeps().keeping(server)
}

backend_suite!(memcached, subject);
