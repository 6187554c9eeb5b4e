//! cachalot
