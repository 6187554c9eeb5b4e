//! Which run of which server answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;

/// Counts how often another run of a server was met than the one before. Every connection asks when it is made.
#[derive(Debug, Default)]
pub(crate) struct Incarnation {
    count: AtomicU64,
    run_id: Mutex<Option<String>>,
}

impl Incarnation {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Asks a connection, before it is used, which run is at its other end. A server that does not say, since
    /// this user may not ask, counts as the same.
    pub(crate) async fn meet(&self, connection: &mut MultiplexedConnection) {
        let info: redis::RedisResult<String> = redis::cmd("INFO").arg("server").query_async(connection).await;
        if let Some(run_id) = info.ok().as_deref().and_then(run_id) {
            self.note(run_id);
        }
    }

    fn note(&self, run_id: &str) {
        let mut known = self.run_id.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref().is_some_and(|known| known != run_id) {
            self.count.fetch_add(1, Ordering::AcqRel);
        }
        *known = Some(run_id.to_owned());
    }
}

/// The `run_id` of what `INFO server` says.
fn run_id(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix("run_id:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_run_counts_and_the_same_does_not() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:5f3a\r\ntcp_port:1\r\n";
        assert_eq!(run_id(info), Some("5f3a"));
        assert_eq!(run_id("# Server\r\n"), None);
        let incarnation = Incarnation::default();
        for (id, count) in [("a", 0), ("a", 0), ("b", 1), ("b", 1), ("a", 2)] {
            incarnation.note(id);
            assert_eq!(incarnation.count(), count);
        }
    }
}
