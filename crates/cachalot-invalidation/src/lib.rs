//! Invalidations that a shared tier has not taken yet, and when to try them again.
//!
//! An invalidation must not be lost because a server is down. [`Deferred`] keeps it until a replay has
//! succeeded; while it is kept, the cache bypasses every tier for its key.
//!
//! ```
//! use cachalot_core::Key;
//! use cachalot_invalidation::Deferred;
//!
//! let deferred = Deferred::new();
//! let key = Key::new("products:42");
//! assert!(deferred.defer(key.clone(), 42), "nobody replays yet: the caller starts the replay");
//! assert!(deferred.contains(&key));
//!
//! for item in deferred.items() {
//!     // ... remove item.key in the shared tier, then what this process holds ...
//!     deferred.settle(&item);
//! }
//! assert!(!deferred.contains(&key));
//! ```

mod backoff;
pub use backoff::Backoff;
mod deferred;
pub use deferred::{Deferred, Item};
mod seen;
pub use seen::{Seen, Standing};
