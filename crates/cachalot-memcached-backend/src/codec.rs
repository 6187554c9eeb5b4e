//! Memcached's meta protocol, without input and output: commands to bytes, bytes to replies.
//!
//! What is written down here is memcached's `doc/protocol.txt` of 1.6.18, as far as this crate speaks it.

mod command;
pub use command::{Command, Item, Verb};
mod life;
pub use life::{LONGEST, argument, seconds, term};
mod name;
pub use name::Name;
mod reply;
pub use reply::{Malformed, Meta, Parser, Reply};
