//! cachalot-stampede
