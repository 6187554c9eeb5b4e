//! cachalot-testkit
