//! What the cache promises, one sentence a test. Time is tokio's, paused; the shared tier is the memory
//! backend; real servers are in the integration tests.

mod loads;
mod outage;
mod shared_tier;
mod stale;
mod world;
mod writes;
