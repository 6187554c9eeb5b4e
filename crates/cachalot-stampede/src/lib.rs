//! Single-flight loads: one load per key, whoever asks. And what else keeps a source from being stormed: early
//! refresh, a budget for it, pauses after failures.
//!
//! ```
//! use cachalot_core::units::{millis, seconds};
//! use cachalot_stampede::SingleFlight;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let users: SingleFlight<u64, String> = SingleFlight::builder()
//!     .hard_timeout(seconds(5))
//!     .error_backoff(millis(100), seconds(10))
//!     .build()?;
//!
//! // A thousand calls of this at once are one query.
//! let name = users.run_within(&42, millis(200), || async { Ok(query(42).await?) }).await?;
//! assert_eq!(name, "Ada");
//! # Ok(()) }
//! # async fn query(_: u64) -> Result<String, std::io::Error> { Ok("Ada".into()) }
//! ```
//!
//! # What it guarantees
//!
//! - The load runs in a task of its own. Any caller may leave at any await, by a timeout of its own or by being
//!   dropped, the one that began the load included; nobody else notices. When the last has left, the load is
//!   finished or dropped, as you say ([`OnDeserted`]).
//! - A loader that fails, panics (in its closure or later) or hangs is one failure, shared by all who wait. Their
//!   number changes nothing: fifty callers of a failing loader are one call of it.
//! - A load that hangs is given up; one that cannot be, since it blocks its thread, is overtaken after
//!   `max_flight_age`, and those who waited for it get what ends first.
//! - A loader that waits for its own key, or for a load that waits for it, gets
//!   [`Reentrant`](cachalot_core::ErrorKind::Reentrant) at once instead of hanging, across keys and tables,
//!   provided that it asks from the task it runs in.
//! - [`SingleFlight::forget`] detaches a load: whoever calls after it gets nothing that was begun before it.
//! - The loader's own error comes out as it went in ([`LoadError::downcast_ref`](cachalot_core::LoadError)).
//! - The loader's closure is not called unless this caller loads.
//! - After the last load has ended the table holds nothing.
//!
//! # The parts
//!
//! | to | use | it needs |
//! |---|---|---|
//! | share loads | [`SingleFlight`] | tokio, or another runtime by [`Spawn`](cachalot_core::Spawn) and tokio's time |
//! | build your own cache | [`Flights`], [`guard`], [`loading`] | no runtime |
//! | refresh before expiry | [`XFetch`], [`RefreshBudget`] | nothing |
//! | pause after failures | [`Failures`] | nothing |
//!
//! All but `SingleFlight` and `guard` are synchronous: they start no task, read no clock and draw no number that
//! they are not handed, so any runtime can drive them and a test can replay them.
//!
//! [`Flights`] is a table of the loads in progress. The first to [`join`](Flights::join) a key becomes its
//! [`Lead`] and loads; all others get a [`Follow`] and share what it lands.
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
//! A [`Lead`] that is dropped without landing (a panic, a dying runtime) tells its followers at once:
//! [`Landing::Abandoned`].

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
