//! The engine from within, by many threads: under load, and under every schedule of a few.

#[cfg(cachalot_loom)]
#[allow(unsafe_code, reason = "what is tracked is shared between threads")]
mod interleavings;
#[cfg(not(cachalot_loom))]
mod stress;
