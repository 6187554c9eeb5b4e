//! One function per sentence of the contract, named after it.

mod holds;
mod invalidation;
mod leases;
mod life;
mod reading;
mod robustness;
mod sweeping;
pub use holds::*;
pub use invalidation::*;
pub use leases::*;
pub use life::*;
pub use reading::*;
pub use robustness::*;
pub use sweeping::*;

/// The sentences that hold for a backend without leases too.
pub const WITHOUT_LEASES: [&str; 3] =
    ["it_says_whether_it_has_leases", "nothing_is_found_at_first", "no_keys_get_no_answers"];
