//! Writes that the source gets later.

mod journal;
