//! The backend against real servers, each test with its own.
// A failed expectation is how a test reports.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod conformance;
mod connection;
mod foreign;
mod leases;
mod leaving;
mod limits;
mod servers;
mod support;
