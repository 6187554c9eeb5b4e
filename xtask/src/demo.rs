//! `cargo xtask demo`: the storefront, optimised. Its arguments are passed on.

use anyhow::Result;

use crate::run::{cargo, run};

pub(crate) fn main(args: &[String]) -> Result<()> {
    run(cargo(&["run", "--release", "--package", "storefront", "--"]).args(args))
}
