//! cachalot-memory-backend
