//! What the stories in `tests/it` are told with: actors that can be stopped at every step, backends and
//! stores that break the protocol, and a fleet in simulated weather.
//!
//! Everything here panics when an expectation fails, as tests do.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod script;
pub use script::{Actor, ActorSpawn, Script};
mod stepped;
pub use stepped::{Stepped, Steps};
mod broken;
pub use broken::{Lapse, Lapsed, Unfenced};
mod stage;
pub use stage::{Came, Cell, HOLD_TERM, Invalidator, L1, Node, Order, Place, Probe, Stage, Step, Victim};
mod matrix;
pub use matrix::{Column, Row, cells, is_live};
mod patience;
pub use patience::{connect, patient};
mod relay;
pub use relay::Relay;
mod waiting;
pub use waiting::counted;
mod world;
pub use world::{Action, Plan, Report, Server, Sweep, live, sweep};
mod sqlite;
pub use sqlite::{SqliteError, SqliteSource};
mod mistake;
pub use mistake::Mistake;
mod ledger;
pub use ledger::{Entry, Ledger};
pub mod counting;
