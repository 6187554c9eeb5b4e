//! cachalot-strategies
