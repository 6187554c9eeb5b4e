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
//!
//! # The bus
//!
//! What one process removes the others hold in their memories. A [`Bus`](cachalot_core::Bus) tells them, and
//! may lose, repeat and reorder what it carries. [`Announcer`] numbers what a cache says, gathers it into
//! messages and sends heartbeats; [`Hearing`] knows from that what it has missed. [`LocalBus`] is a bus within
//! one process.
//!
//! ```
//! use cachalot_core::{BusEvent, Entropy, Key, ManualClock, Namespace, PublisherId, Subject};
//! use cachalot_invalidation::{Announcer, Deed, GapCause, Hearing, Next};
//!
//! # fn main() -> cachalot_core::Result<()> {
//! let (clock, entropy, users) = (ManualClock::new(), Entropy::seeded(7), Namespace::new("users")?);
//! let (here, there) = (PublisherId::draw(&entropy), PublisherId::draw(&entropy));
//! let mut announcer = Announcer::new(here, users.clone(), Default::default(), entropy, clock.now());
//! let mut hearing = Hearing::new(there, users.clone(), Default::default());
//! let _ = hearing.on_event(BusEvent::Confirmed, clock.now());
//!
//! // Hello, then three invalidations. The second message is lost on its way.
//! let mut heard = Vec::new();
//! for user in ["", "7", "8", "9"] {
//!     if !user.is_empty() {
//!         announcer.announce(Subject::Key { key: users.key(user), pending: false }, false);
//!     }
//!     let Next::Send(message) = announcer.next(clock.now()) else { panic!("it is due") };
//!     announcer.sent(clock.now());
//!     if user != "8" {
//!         heard.push(hearing.on_event(BusEvent::Message(message), clock.now()));
//!     }
//!     clock.advance(std::time::Duration::from_millis(2));
//! }
//! assert_eq!(heard[1].deed, Deed::Apply(vec![Subject::Key { key: Key::new("users:7"), pending: false }]));
//! assert_eq!(heard[2].gap, Some(GapCause::Jump { publisher: here, missed: 1 }));
//! # Ok(()) }
//! ```

mod backoff;
pub use backoff::Backoff;
mod deferred;
pub use deferred::{Deferred, Item};
mod floors;
pub use floors::Floors;
mod announcer;
pub use announcer::{Announcer, AnnouncerSettings, Next};
mod hearing;
pub use hearing::{Deed, GapCause, Heard, Hearing, HearingSettings};
mod self_lease;
pub use self_lease::{SelfLease, Term};
mod confirming;
pub use confirming::{Acks, Confirming};
mod local_bus;
pub use local_bus::LocalBus;
mod recent;
pub use recent::{Recalled, Recent};
mod seen;
pub use seen::{Seen, Standing};
