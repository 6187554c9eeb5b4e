//! What the cache promises, one sentence a test. Time is tokio's, paused; the shared tier is the memory
//! backend; real servers are in the integration tests.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod backoff;
mod batch;
mod batch_flights;
mod batch_late;
mod batch_load;
mod batch_seeded;
mod clear;
mod confirmed;
mod crashes;
mod dependencies;
mod early;
mod failover;
mod fleet;
mod fleet_trouble;
mod joined_tags;
mod lease_hints;
mod loads;
mod old_versions;
mod order;
mod outage;
mod overflow;
mod read_through;
mod refresh_ahead;
mod shared_tier;
mod sliding;
mod sliding_order;
mod snapshot;
mod soft_and_hard;
mod stale;
mod steps;
mod symptoms;
mod tag_index;
mod tags;
mod tags_trouble;
mod timelines;
mod ttl;
mod versions;
mod versions_order;
mod warm_up;
mod world;
mod write_behind;
mod write_through;
mod writes;
