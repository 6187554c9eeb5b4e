//! The demo of cachalot: a shop's service over SQLite, and what a cache does for it.
//!
//! Read [`catalog`] first: it is the part to copy, a service's reads and its one write with a cache in
//! front. The rest is what a demo needs around it.
//!
//! - [`shop`]: the database, its generator and its queries; no cache in sight.
//! - [`catalog`]: users, products, listings, sessions, stock and views, cached.
//! - [`sources`]: the database as what users are read through, and stock and views are written through and behind.
//! - [`bestsellers`]: listings over a leaderboard in Redis.
//! - [`outbox`]: invalidations that no crash loses, in the transaction that makes them necessary.
//! - [`pages`], [`service`]: the catalog, or the bare database for comparison, over HTTP.
//! - [`zipf`], [`client`], [`load`], [`repricing`], [`stocktaking`], [`viewing`], [`ordering`], [`crash`]: the
//!   callers.
//! - [`nodes`], [`redis`]: the processes of a run, started and stopped.
//! - [`demo`], [`report`], [`args`]: the run as a whole, and what it tells.

pub mod shop;

pub mod bestsellers;
pub mod catalog;
pub mod outbox;
pub mod pages;
pub mod service;
pub mod sources;

pub mod client;
pub mod crash;
pub mod load;
pub mod ordering;
pub mod repricing;
pub mod stocktaking;
pub mod viewing;
pub mod zipf;

pub mod nodes;
pub mod redis;

pub mod args;
pub mod demo;
pub mod report;
