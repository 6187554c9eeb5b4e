//! Redis as the shared tier of cachalot: records with leases, and a deadline on every command.
//!
//! ```no_run
//! use cachalot_redis_backend::Redis;
//!
//! # async fn example() -> cachalot_core::Result<()> {
//! let backend = Redis::connect("redis://127.0.0.1:6379").await?;
//! # Ok(()) }
//! ```
//!
//! # What is stored
//!
//! One string per key: a header of 48 bytes (flags, lease token, lease deadline, nonce), the time it was
//! stored by the server's clock, the era, and the payload. Lease and value live in one record, so whatever deletes
//! the record, a foreign `DEL`, an eviction, an expiry or a flush, revokes the right to store with it. Each
//! operation but a plain read is one Lua script on one key (`src/lua`), so it is atomic and at home in one
//! slot. No write is unconditional.
//!
//! # What is not ours
//!
//! A string that is no record of ours is no value: reads miss, and a lease or a removal overwrites or drops
//! it. A key of another type (list, hash, set, ...) is left alone: reads miss, removals find nothing, puts
//! are lost, and a lease or a hold fails with [`ErrorKind::Unsupported`](cachalot_core::ErrorKind).
//!
//! # Patterns of keys
//!
//! A sweep is `SCAN` in pages of 1,000 keys and a script that removes 250 keys at a time, as a removal does each:
//! nobody waits for longer than that, and `KEYS` is never used. A key of more than 512 bytes is kept under its
//! first 512 bytes and a hash of the rest: a pattern that these do not contradict removes it, so now and then one
//! too many. A pattern with a `*` before its end asks the server for all that begins alike, and picks out here
//! what matches. If the connection is lost in between, the walk begins anew, since another server may answer.
//!
//! On a cluster a sweep goes over every primary, and once more over all of them if slots have moved meanwhile.
//!
//! # Redis Cluster
//!
//! [`RedisCluster`] is the same tier over many nodes: [`connect_cluster`](RedisBuilder::connect_cluster). Buses and
//! [`TagIndex`] are for one server.
//!
//! # After a fail-over
//!
//! What a server acknowledged it may forget: a replica takes over before it has heard of it, or an old snapshot is
//! loaded. [`Recovery`] says what becomes of the rest: it is read as before and caches invalidate anew what they
//! invalidated of late, or it is never read again.
//!
//! # Time
//!
//! Lease deadlines, lives and ages go by the server's clock. How far it is ahead of ours is estimated per
//! connection, bounded by a round trip, with every script's answer and else once a minute. No two nodes
//! need agree on the time.
//!
//! # Members
//!
//! Who is there is one sorted set for each cache, `namespace@`, beside the records: an element for each process, and
//! one that says in which run of the server the list began. A server that was restarted, replaced or flushed begins a
//! new one. To tell its runs apart the user needs `INFO`; without it, a server that is restarted from an old snapshot
//! does not know the latest members and does not say so.
//!
//! # Buses
//!
//! [`RedisBus`] (Pub/Sub) and [`RedisStreamBus`] tell other processes what was invalidated, each by connections of
//! its own: `Redis::builder(url).bus().pub_sub()`. A stream keeps messages for who was away for a moment.
//!
//! # Beside services in other languages
//!
//! `Redis::builder(url).plain()` gives a [`PlainBackend`] and a [`PlainBus`]: JSON under bare keys, locks, sets of tags and
//! messages as the common recipe of other languages has them. It promises less; `docs/interop.md` says what.
//!
//! # Patterns beside the cache
//!
//! [`RedisBackend::patterns`] gives typed handles to what else one does with Redis: objects, leaderboards, queues, topics,
//! counters, limits and batches. See [`patterns`].
//!
//! # When the server is away
//!
//! A command that finds no connection makes one. If that fails, commands fail at once with
//! [`ErrorKind::Unavailable`](cachalot_core::ErrorKind) until a pause has passed (25 ms, doubling to 1 s,
//! spread at random); then the next command tries again. A server that accepts and does not answer costs
//! each command its deadline, [`ErrorKind::Timeout`](cachalot_core::ErrorKind). Reads, removals and the
//! like are sent once more if the connection breaks under them; lease and put are not.
//!
//! Dropping a future gives up the answer: the command may still happen, and the connection stays good for
//! all others.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
pub use config::{Redis, RedisBuilder};
mod incarnation;
pub use incarnation::Recovery;
mod backend;
pub use backend::RedisBackend;
mod bus;
mod cluster;
pub use cluster::RedisCluster;
mod lease;
pub use bus::{RedisBus, RedisBusBuilder, RedisStreamBus};
pub mod patterns;
#[doc(inline)]
pub use patterns::RedisPatterns;
mod plain;
pub use plain::{PlainBackend, PlainBuilder, PlainBus, PlainForm};
mod tag_index;
pub use tag_index::{TagIndex, TagKeys, TagRemoval};

mod blocking;
mod each;
mod era;
mod fault;
mod gather;
mod link;
mod members;
mod mget;
mod name;
mod record;
mod reply;
mod scan;
mod script;
mod server_time;
mod sweep;
mod tags;
mod versions;
