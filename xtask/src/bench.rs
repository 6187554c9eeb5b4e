//! bench
use anyhow::Result;
pub(crate) fn main(_args: &[String]) -> Result<()> {
    Ok(())
}
