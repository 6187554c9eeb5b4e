//! What the cache promises, one sentence a test. Time is tokio's, paused; the shared tier is the memory
//! backend; real servers are in the integration tests.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod batch;
mod loads;
mod order;
mod outage;
mod shared_tier;
mod stale;
mod world;
mod writes;
