//! Workloads: the order in which keys are read. Generated, or from files of other projects' traces.

#[cfg(feature = "traces")]
mod file;
#[cfg(feature = "traces")]
pub use file::{files, folder};
mod generate;
pub use generate::generated;

/// The order in which keys are read.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What tables call it, `folder/name` for a file.
    pub name: String,
    /// The keys in order.
    pub keys: Vec<u64>,
}

impl Trace {
    /// How many different keys there are.
    pub fn distinct(&self) -> usize {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }
}
