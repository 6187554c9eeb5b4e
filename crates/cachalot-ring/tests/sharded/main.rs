//! `Sharded`: one tier over many.
// A failed expectation is how a test reports.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

mod conformance;
mod copies;
mod grouped;
mod health;
mod moves;
mod next_node;
mod storm;
