//! The backend against real servers, each test with its own.
// A failed expectation is how a test reports.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod bus;
mod bus_pub_sub;
mod bus_stream;
mod cluster;
mod conformance;
mod connection;
mod era;
mod foreign;
mod gather;
mod limits;
mod members;
mod patterns;
mod plain;
mod scripts;
mod support;
mod sweep;
mod tag_index;
mod time;
