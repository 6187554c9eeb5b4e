//! Memcached as a shared tier of cachalot, by its meta protocol.
//!
//! The crate holds its name and its place below `cachalot-core`; the backend is still to be built.
