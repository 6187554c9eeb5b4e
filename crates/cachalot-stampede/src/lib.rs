//! Single-flight loads: one load per key, whoever asks.
//!
//! [`Flights`] is a table of the loads in progress. The first to [`join`](Flights::join) a key becomes its
//! [`Lead`] and loads; all others get a [`Follow`] and share what it lands. The table itself is a
//! synchronous state machine; it starts no task and reads no clock, so any runtime can drive it.
//!
//! ```
//! use cachalot_stampede::{Flights, Joined, Landing};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let flights: Flights<String, u64> = Flights::new();
//! let key = "answer".to_owned();
//!
//! let Joined::Lead(lead, first) = flights.join(&key) else { unreachable!("nobody else loads") };
//! let Joined::Follow(second) = flights.join(&key) else { unreachable!("it is being loaded") };
//! tokio::spawn(async move { lead.land(42) });
//!
//! assert_eq!(first.wait().await, Ok(Landing::Final(42)));
//! assert_eq!(second.wait().await, Ok(Landing::Final(42)));
//! assert!(flights.is_empty());
//! # }
//! ```
//!
//! # What it guarantees
//!
//! - Any participant may be dropped at any moment; nobody else notices. A [`Lead`] that is dropped without
//!   landing (a panic, a dying runtime) tells its followers at once: [`Landing::Abandoned`].
//! - [`Flights::void`] detaches a flight: whoever joins after it opens a new one.
//! - A loader that waits for its own key, or for a load that waits for it, gets [`Reentrant`] at once
//!   instead of hanging, provided the loader runs inside [`loading`] and stays in its task.
//! - After the last flight has landed the table holds nothing.

mod single_flight;
pub use single_flight::{OnDeserted, SingleFlight, SingleFlightBuilder};
mod flight;
pub use flight::{Flights, Follow, Joined, Landing, Lead};
mod waits;
pub use waits::{FlightId, Reentrant, loading, loading_all};
mod xfetch;
pub use xfetch::{XFetch, clamp_delta, should_refresh};
mod budget;
pub use budget::RefreshBudget;
mod failures;
pub use failures::{ErrorBackoff, Failures, Remembered};
mod guard;
pub use guard::{Failure, guard};
mod spawn;
pub use spawn::TokioSpawn;
mod sync;
