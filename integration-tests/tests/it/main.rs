//! Stories over real servers and in a simulated world.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod bus_trouble;
mod buses;
mod chaos;
mod cluster;
mod confirmed;
mod dependants;
mod era;
mod failover;
mod hanging_shard;
mod hot_path;
mod kill;
mod matrix;
mod mutants;
mod outage;
mod processes;
mod residue;
mod rolling_deploy;
mod scenes;
mod sharded_memcached;
mod sliding;
mod stampede;
mod tag_index;
mod versions;
mod world;
mod write_through_fire;
mod writers;
