//! Consistent hashing.
#![no_std]
extern crate alloc;
mod placement;
pub use placement::{Placement, Reshape};
mod node;
pub use node::Node;
mod ketama;
pub use ketama::{Ketama, KetamaLayout};
mod md5_ring;
pub use md5_ring::Md5Ring;
mod error;
pub use error::RingError;
mod continuum;
mod hash;
mod md5;
