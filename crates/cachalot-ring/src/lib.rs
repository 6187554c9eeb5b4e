//! Consistent-hash placement for cachalot: which of many nodes holds a key.
//!
//! The crate holds its name and its place below `cachalot-core`; the algorithms are still to be built.
