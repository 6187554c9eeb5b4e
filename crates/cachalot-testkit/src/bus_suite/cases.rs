//! One function per sentence of the contract, named after it.

mod breaks;
mod delivery;
mod patience;
pub use breaks::*;
pub use delivery::*;
pub use patience::*;
