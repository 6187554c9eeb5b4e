//! Memcached as the shared tier of cachalot, by its meta protocol: leases granted by the server, and a deadline on every
//! command.
//!
//! ```no_run
//! use cachalot_memcached_backend::Memcached;
//!
//! # async fn example() -> cachalot_core::Result<()> {
//! let backend = Memcached::connect("memcache://127.0.0.1:11211").await?;
//! # Ok(()) }
//! ```
//!
//! # What is stored
//!
//! One item per key. Its flags tell what it is: a value, a reader's lease, a writer's hold, a tag's token; before a
//! payload lies a header of 44 bytes (nonce, lease, age). Lease and value are one item, so whatever deletes it, a foreign
//! `delete`, an eviction, an expiry or a flush, revokes the right to store with it. Nothing is stored over an item but by
//! its CAS, nor deleted; only the token of a tag is replaced at once.
//!
//! A key is what it is called in the server, behind the prefix, if it has at most 250 bytes and neither spaces nor
//! control characters: what other clients and rings place keys by. Others are told in base64, and what is longer is kept
//! under its beginning and SHA-256.
//!
//! # Leases
//!
//! Where nothing is, one reader wins an empty item, put by the server for the lease's term. A value that was expired is
//! won by the next reader. What was won is a CAS, which means something only to the server that counted it; so the right
//! is bound to the connection by which it came, and lost with it. That costs a load, never more. A lease beside a value that
//! was refused, and a writer's hold, stand in the item by their token too, and outlive the connection. Every read may win
//! an expired value; one that has no use for it hands it back.
//!
//! The server sets no end to the winner of an expired value. Whoever waits for one hands it on after the term that it
//! asks for itself, by its own clock: let all processes use the same lease term, or those with a shorter one succeed winners
//! that live. A process remembers 65,536 rights at a time; one that is pushed out by so many later ones is lost, which
//! costs a load.
//!
//! # Time
//!
//! The server tells no time but what an item has left, in seconds, and counts these from its own beat: a life of *n*
//! seconds ends between *n* − 1 and *n* seconds from now. Terms of leases and holds get a second more, so that none ends
//! early and one ends up to two seconds late. Lives are rounded up to whole seconds, what lives for
//! less than one lives for up to one, and an age may be wrong by up to a second either way: by as much, what is read here
//! counts as fresh for too long or not long enough.
//!
//! # What it lacks
//!
//! Keys are not listed, so there is no [sweep](cachalot_core::Backend::sweep): tags and clearable caches do without.
//! There are no members, so nothing is confirmed, and no versions. Holds and tag tokens are items like others and may be
//! evicted: an evicted token ends the entries that carry it, but an evicted hold no longer protects against a writer that
//! crashes. A server that is out of memory drops the item under the key that it was to store, whatever its CAS (seen with
//! 1.6.18); a hold that is lost so is as one that was evicted.
//!
//! One address is one server. Connections to two at a time never serve side by side: when another one is met, those to the
//! one before end. Servers are told apart by their process number and the second in which they started: two that have both
//! in common, as containers may that start together, are taken for one, and what was removed on one of them is not removed
//! again on the other. A value that is rewritten (a lease beside it, a touch of it) is sent with the seconds that it had
//! left: if the command reaches the server late, it lives by so much longer.
//!
//! # When the server is away
//!
//! A command that finds no connection makes one. If that fails, commands fail at once with
//! [`ErrorKind::Unavailable`](cachalot_core::ErrorKind) until a pause has passed (25 ms, doubling to 1 s, spread at
//! random); then the next command tries again. A server that accepts and does not answer costs each command its
//! deadline, [`ErrorKind::Timeout`](cachalot_core::ErrorKind). Reads, removals and the like are done once more if the
//! connection breaks under them; lease and put are not. An answer that is an error, or that does not fit the command, ends
//! the connection, and if that is younger than a second the next one is made after a pause; only a put for which the server
//! has no memory fails alone.
//!
//! Dropping a future gives up the answer: the command may still happen, and the connection stays good for all others.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
pub use config::{Memcached, MemcachedBuilder};
mod backend;
pub use backend::MemcachedBackend;
/// The meta protocol as bytes. For the tests of this project, which feed it anything; no part of what is promised.
#[doc(hidden)]
pub mod codec;

mod expect;
mod fault;
mod grants;
mod lease;
mod link;
mod meeting;
mod record;
mod settle;
mod stream;
mod tags;
mod watch;
mod wire;
