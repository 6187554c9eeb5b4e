//! cachalot-redis-backend
