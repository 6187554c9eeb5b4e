//! Contracts of the cachalot caching layer.
//!
//! Everything else in cachalot depends on this crate, and this crate on nothing that runs: it knows no
//! runtime, does no I/O and keeps no state. Without features it holds what an in-process cache needs; the
//! feature `bytes` adds the plane that crosses processes.
//!
//! ```
//! use std::time::Duration;
//! use cachalot_core::{CacheKey, EntryOptions, ManualClock, Entropy, Ttl};
//!
//! let clock = ManualClock::new();
//! let options = EntryOptions::default().ttl(Ttl::minutes(5)).stale_if_error(Duration::from_secs(3600));
//! let meta = options.stamp(clock.now(), Duration::ZERO, &Entropy::seeded(7)).expect("a TTL above zero");
//! assert_eq!(meta.soft_expiry(), clock.now() + Duration::from_secs(300));
//! assert_eq!(meta.hard_expiry(), clock.now() + Duration::from_secs(3900));
//! assert_ne!(("a", "bc").to_key_bytes(), ("ab", "c").to_key_bytes());
//! ```
//!
//! # Two planes
//!
//! - **Typed**: [`Store`] holds shared handles to typed values in this process. Synchronous, no bytes.
//! - **Bytes** (feature `bytes`): [`Backend`] holds records under byte keys, in another process. A
//!   [`Codec`] and the [envelope] turn a value into the payload of such a record.
//!
//! # Features
//!
//! `bytes`: the bytes plane. `msgpack`, `json`, `postcard`, `bincode`: codecs. `uuid`: [`CacheKey`] for
//! `uuid::Uuid`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "bytes"), allow(rustdoc::broken_intra_doc_links, reason = "half is not there"))]

mod key;
pub use key::{CacheKey, Versioned};
mod entry;
pub use entry::{Entry, Freshness, Meta, Stamp};
mod ttl;
pub use ttl::{DataClass, Recency, Tiers, Ttl};
mod options;
pub use options::EntryOptions;
mod tag;
#[cfg(feature = "bytes")]
pub use tag::{Depth, TagBackend, TagIndexBackend, TagToken, TagWalk};
pub use tag::{Tag, Tags};
mod store;
pub use store::{Commit, Fence, Glimpse, Hit, SnapshotStore, Store, StoreCursor, StoreStats};
mod error;
pub use error::{Error, ErrorKind, LoadError, LoaderError, Result, Retry};
mod event;
pub use event::{Event, LoadOutcome, Observer, Tier};
mod clock;
pub use clock::{Clock, ManualClock, Timestamp};
mod entropy;
pub use entropy::Entropy;
mod spawn;
pub use spawn::{BoxFuture, Spawn};
#[doc(hidden)]
pub mod mutants;
pub mod units;

#[cfg(feature = "bytes")]
mod backend;
#[cfg(feature = "bytes")]
pub use backend::{Backend, BackendInfo, Expired, Record, Removed, SweepCursor, Swept};
#[cfg(feature = "bytes")]
mod lease;
#[cfg(feature = "bytes")]
pub use key::{Key, Namespace};
#[cfg(feature = "bytes")]
pub use lease::{Held, Holder, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Token};
#[cfg(feature = "bytes")]
mod version;
#[cfg(feature = "bytes")]
pub use version::VersionBackend;
#[cfg(feature = "bytes")]
mod pattern;
#[cfg(feature = "bytes")]
pub use pattern::{KeyPattern, Pattern};
#[cfg(feature = "bytes")]
mod bus;
#[cfg(feature = "bytes")]
pub use bus::{
    Body, Bus, BusEvent, BusGap, BusInfo, EventQueue, Message, PublisherId, Subject, Subscription,
};
#[cfg(feature = "bytes")]
mod members;
#[cfg(feature = "bytes")]
pub use members::{Enrolled, Member, MemberBackend, Roll};
#[cfg(feature = "bytes")]
mod source;
#[cfg(feature = "bytes")]
pub use source::{FnSource, LoadFn, ReadOnly, Source, Write};
#[cfg(feature = "bytes")]
pub mod codec;
#[cfg(feature = "bytes")]
pub use codec::Codec;
#[cfg(feature = "bytes")]
pub mod envelope;
