//! Which run of which server answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use crate::era::Era;
use crate::fault::Fault;

/// What becomes of what was stored before a server forgot some of what it had acknowledged: a replica took over
/// before it had heard of everything, or the server started anew from an old snapshot.
///
/// Among what is forgotten may be removals, and so old values come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recovery {
    /// It is read as before, and each cache invalidates anew what it has invalidated of late (`replay_window`). In
    /// between, values from before a removal may be read by others; for ever if who removed them is gone too.
    #[default]
    Replay,
    /// None of it is read again. A value, a lease and a tag's token count only on connections to the server that took
    /// them, in the same run and since it last became a primary; on any other, values are misses and leases are lost.
    /// So no read after a fail-over sees a value from before a removal, at the price of a cold tier after each
    /// fail-over and each restart.
    ///
    /// A server that does not say who it is (`INFO`), or that is a replica, is refused. Processes of both kinds on one
    /// server leave each other's values alone, and load for themselves. What is invalidated needs no replay then: a
    /// cache may set its `replay_window` to zero.
    ///
    /// A primary becomes another one if it was demoted and promoted again. That is noticed if its connections are
    /// ended when it is demoted, as Sentinel does (who does it by hand: `CLIENT KILL TYPE normal`), else by a look
    /// that each connection takes every 10 s before it is used. As a server's replication gets another name when its
    /// first replica comes, or an hour after the last one has left, these are cold starts too. Two primaries at the
    /// same time, of which each takes writes, no client can tell apart: see `min-replicas-to-write`.
    Era,
}

/// Counts how often another run of a server was met than the one before. Every connection asks when it is made.
#[derive(Debug, Default)]
pub(crate) struct Incarnation {
    recovery: Recovery,
    /// One for all nodes of a cluster.
    count: Arc<AtomicU64>,
    met: Mutex<Option<String>>,
}

impl Incarnation {
    pub(crate) fn new(recovery: Recovery, count: Arc<AtomicU64>) -> Self {
        Self { recovery, count, ..Self::default() }
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.recovery == Recovery::Era
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Asks a connection, before it is used, which run is at its other end, and gives the era. A server that does not
    /// say, since this user may not ask, counts as the same, unless eras are wanted.
    pub(crate) async fn meet(&self, connection: &mut MultiplexedConnection) -> Result<Era, Fault> {
        if self.is_strict() {
            let identity = identity(connection).await?;
            self.note(&identity);
            return Ok(Era::of(&identity));
        }
        let info: RedisResult<String> = redis::cmd("INFO").arg("server").query_async(connection).await;
        if let Some(run_id) = info.ok().as_deref().and_then(|info| field(info, "run_id")) {
            self.note(run_id);
        }
        Ok(Era::NONE)
    }

    /// Whether a connection still leads to a server of `era`.
    pub(crate) async fn is_still(&self, era: Era, connection: &mut MultiplexedConnection) -> bool {
        identity(connection).await.is_ok_and(|identity| Era::of(&identity) == era)
    }

    fn note(&self, identity: &str) {
        let mut known = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref().is_some_and(|known| known != identity) {
            self.count.fetch_add(1, Ordering::AcqRel);
        }
        *known = Some(identity.to_owned());
    }
}

/// Which run of which primary it is, and since when it is one: a promotion gives its replication another name.
async fn identity(connection: &mut MultiplexedConnection) -> Result<String, Fault> {
    let mut ask = redis::pipe();
    ask.cmd("INFO").arg("server").cmd("INFO").arg("replication");
    let (server, replication): (String, String) = ask.query_async(connection).await?;
    if field(&replication, "role") != Some("master") {
        return Err(refused("the server is no primary"));
    }
    let names = (field(&server, "run_id"), field(&replication, "master_replid"));
    let (Some(run_id), Some(history)) = names else {
        return Err(refused("the server does not say which one it is"));
    };
    Ok(format!("{run_id} {history}"))
}

fn refused(why: &str) -> Fault {
    Fault::Broken(why.to_owned())
}

/// The field `name` of what `INFO` says.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.trim_end().strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_run_counts_and_the_same_does_not() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:5f3a\r\ntcp_port:1\r\n";
        assert_eq!(field(info, "run_id"), Some("5f3a"));
        assert_eq!(field("# Server\r\n", "run_id"), None);
        let incarnation = Incarnation::default();
        for (id, count) in [("a", 0), ("a", 0), ("b", 1), ("b", 1), ("a", 2)] {
            incarnation.note(id);
            assert_eq!(incarnation.count(), count);
        }
    }
}
