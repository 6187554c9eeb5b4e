//! cachalot-invalidation
