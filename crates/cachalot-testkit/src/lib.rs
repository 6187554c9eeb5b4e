//! What the tests of cachalot are made of, and what proves an own backend or store.
//!
//! Everything here panics when an expectation fails, as tests do. Nothing sleeps in real time but what talks
//! to a real server.
//!
//! ```
//! # cachalot_testkit::block_on(async {
//! use cachalot_core::{Backend, Key, LeaseReply, ManualClock, PutReply, Put, Entropy, Nonce, Token};
//! use cachalot_testkit::{CountingSource, ModelBackend};
//! use std::time::Duration;
//!
//! let backend = ModelBackend::new(ManualClock::new().clock());
//! let users = CountingSource::with([(7, "Ada")]);
//! let (key, entropy, hour) = (Key::new("user:7"), Entropy::seeded(1), Duration::from_secs(3600));
//! let leases = backend.leases().unwrap();
//!
//! // A reader has the right to store, reads the old row, and stops there.
//! let token = Token::draw(&entropy);
//! let reply = leases.get_or_lease(&key, token, hour, None).await.unwrap();
//! assert_eq!(reply, LeaseReply::Lease { stale: None });
//! let gate = users.stop_after_reading();
//! let reader = async {
//!     let payload = users.fetch(&7).await.unwrap().into();
//!     let put = Put { payload, nonce: Nonce::draw(&entropy), ttl: hour };
//!     leases.put_leased(&key, token, put).await.unwrap()
//! };
//! // Meanwhile a writer changes the row and removes the key.
//! let writer = async {
//!     gate.reached(1).await;
//!     users.set(7, "Grace");
//!     backend.remove(&key).await.unwrap();
//!     gate.open();
//! };
//! assert_eq!(tokio::join!(reader, writer).0, PutReply::Absent); // the old row is refused
//! # });
//! ```
//!
//! - **Proof**: [`backend_suite!`], [`bus_suite!`] and [`store_suite!`], one `#[test]` per sentence of a
//!   contract. The references that satisfy them are [`ModelBackend`], [`ModelBus`] and [`ModelStore`]; the
//!   backends in [`broken`] and the buses in [`broken_bus`] are what they catch.
//! - **Effects**: [`tokio_clock`] beside core's `ManualClock`, [`block_on`] and [`block_on_paused`].
//! - **Interleaving**: [`CountingSource`], a database that stops where told, and its [`Gate`]s.
//! - **Faults**: [`Faulty`] and [`Lacking`], around any backend.
//! - **Judgement**: [`history`], which says what read broke the promise of an invalidation.
//! - **Real servers**: [`RedisServer`], [`RedisCluster`], [`MemcachedServer`].
#![cfg_attr(docsrs, feature(doc_cfg))]
// A failed expectation is how a test reports.
#![allow(clippy::expect_used, clippy::unwrap_used)]

pub mod backend_suite;
pub use backend_suite::BackendSubject;
pub mod bus_suite;
pub use bus_suite::BusSubject;
pub mod store_suite;
pub use store_suite::StoreSubject;

mod model_backend;
pub use model_backend::{ModelBackend, Snapshot};
mod model_index;
pub use model_index::ModelIndex;
mod model_bus;
pub use model_bus::ModelBus;
mod model_store;
pub use model_store::ModelStore;
pub mod broken;
pub mod broken_bus;
pub mod history;

mod faults;
pub use faults::{Fault, Faulty, Odds, Operation};
mod lacking;
pub use lacking::Lacking;
mod source;
pub use source::{CountingSource, SourceError};
mod gate;
pub use gate::Gate;
mod clock;
pub use clock::tokio_clock;
mod runtime;
pub use runtime::{block_on, block_on_paused};

#[cfg(unix)]
mod servers;
#[cfg(unix)]
pub use servers::{MemcachedServer, RedisCluster, RedisServer, Server};
