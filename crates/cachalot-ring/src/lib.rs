//! Consistent hashing: which of many nodes holds a key, so that one node more or less moves few keys.
//!
//! ```
//! use cachalot_ring::{Node, Placement, Reshape, SlotRing};
//!
//! let ring = SlotRing::new([Node::new("10.0.0.1:6379"), Node::new("10.0.0.2:6379"), Node::with_weight("10.0.0.3:6379", 2)])?;
//! let owner = ring.nodes()[ring.owner(b"user:42")].name();
//! let copies = ring.owners(b"user:42", 2); // Two distinct nodes, the owner first.
//!
//! // 10.0.0.2 dies: its keys go to the two others, and no other key moves.
//! let smaller = ring.without("10.0.0.2:6379")?;
//! # assert_eq!(copies[0], ring.owner(b"user:42"));
//! # assert!(owner == "10.0.0.2:6379" || smaller.nodes()[smaller.owner(b"user:42")].name() == owner);
//! # Ok::<_, cachalot_ring::RingError>(())
//! ```
//!
//! # Which one
//!
//! | | take it if | lookup of a key of 20 bytes | fullest of 100 nodes, mean 1 | memory | weights | a node leaves |
//! |---|---|---|---|---|---|---|
//! | [`SlotRing`] | nothing below applies | O(1), 5 ns | 1.07 | 128 KiB | exact | only its keys move |
//! | [`Ketama`] | memcached clients of other makes share the fleet | O(1), 140 ns, MD5 | 1.25 | 2 KB a node | to four points in 160 | only its keys move, unless roundings change |
//! | [`Md5Ring`] | services in other languages do it so | O(1), 140 ns, MD5 | 1.25 | 3.5 KB a node | none | only its keys move |
//! | [`Rendezvous`] | there are few nodes, and shares must be as exact as can be | O(n), 2 ns a node | 1.00 | 16 bytes a node | exact | only its keys move |
//! | [`Jump`] | shards are numbered and only get more | O(log n), 20 to 45 ns | 1.00 | none | none | only the last can |
//! | [`Maglev`] | requests are to be spread, not data owned | O(1), 6 ns | 1.00 | 128 KiB | to a slot | its keys and 0.2 to 0.6 % of all |
//!
//! The fullest node counts, since it sets how large all must be; to the figures above comes the chance of the keys
//! themselves. Whatever the algorithm, a key that is asked for by everyone stays one node's burden.
//!
//! # What it promises
//!
//! - The same nodes and the same key give the same owner in every process, on every platform of either byte order
//!   whose floating point is that of IEEE 754, in every release: a file of 10,000 keys for each algorithm is part of the tests.
//!   All hashes are specified: MD5 (RFC 1321) where others use it, else XXH3 of 64 bits with seed 0.
//! - The order in which the nodes are given changes nothing, [`Jump`] excepted, for which it is everything.
//! - A lookup takes no lock, cannot fail, and allocates nothing ([`Placement::owner`]). No nodes, the same node twice
//!   and the like are errors when the ring is built.
//! - A node of weight 0 is as good as absent; so it can be drained and stay in the list.
//!
//! Keys are bytes of any length, and nobody is stopped from choosing keys that fall to one node: XXH3 with a known seed
//! does not withstand an attacker.
//!
//! # Changing the nodes
//!
//! A ring is a snapshot. [`Reshape::with`] and [`Reshape::without`] build another one, in milliseconds; readers go on
//! with the old one until it is replaced. Two processes disagree about a few keys while one knows of the change and
//! the other does not: who owns data must deal with that, as a sharded backend does.
//!
//! # A shared tier over many servers
//!
//! The feature `backend` adds `Sharded`, a backend of a cache over many backends and a ring, which deals with just that.
//! Without it the crate has no dependencies and needs no `std`, only an allocator.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(feature = "backend")]
extern crate std;

mod placement;
pub use placement::{Placement, Reshape};
mod node;
pub use node::Node;
mod error;
pub use error::RingError;
mod slot_ring;
pub use slot_ring::SlotRing;
mod ketama;
pub use ketama::{Ketama, KetamaLayout};
mod md5_ring;
pub use md5_ring::Md5Ring;
mod rendezvous;
pub use rendezvous::Rendezvous;
mod jump;
pub use jump::Jump;
mod maglev;
pub use maglev::Maglev;
#[cfg(feature = "backend")]
mod sharded;
#[cfg(feature = "backend")]
pub use sharded::{Failover, Health, Shard, ShardHealth, Sharded, ShardedBuilder};
mod continuum;
mod hash;
mod logarithm;
mod md5;
