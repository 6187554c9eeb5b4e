//! What the tests of cachalot are made of, and what the author of an own backend or store needs to prove
//! it: servers, sources that can be stopped, and conformance suites.
//!
//! Everything here panics when an expectation fails, as tests do.
#![cfg_attr(docsrs, feature(doc_cfg))]
// A failed expectation is how a test reports.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod runtime;
pub use runtime::{block_on, block_on_paused};
mod clock;
pub use clock::tokio_clock;
mod gate;
pub use gate::Gate;
mod source;
pub use source::{CountingSource, SourceError};
pub mod store_suite;
pub use store_suite::StoreSubject;
pub mod backend_suite;
pub use backend_suite::BackendSubject;
pub mod broken;
mod faults;
pub use faults::{Fault, Faulty, Odds, Operation};
mod model_backend;
pub use model_backend::ModelBackend;
mod model_store;
pub use model_store::ModelStore;

#[cfg(unix)]
mod servers;
#[cfg(unix)]
pub use servers::{MemcachedServer, RedisServer, Server};
