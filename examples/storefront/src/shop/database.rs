//! A SQLite file and a few connections to it, for use from async code.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use tokio::sync::{AcquireError, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

use super::ProductId;

/// More would only wait for the same cores.
const CONNECTIONS: usize = 8;

/// The shop's database: a cheap handle over a pool of connections in WAL mode, so that reads do not
/// wait for the writer.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite refused the query.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// There is no such product.
    #[error("no product {0}")]
    NoProduct(ProductId),
    /// Views are only ever counted up.
    #[error("views are counted, not set")]
    Counted,
    /// The pool is closed.
    #[error("the database is closed")]
    Closed(#[from] AcquireError),
    /// The query panicked, or the runtime is shutting down.
    #[error("the query did not finish: {0}")]
    Unfinished(#[from] JoinError),
}

/// How many queries this process has sent to its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryCount {
    /// Queries that read a page.
    pub reads: u64,
    /// Statements that changed a row.
    pub writes: u64,
}

impl Database {
    /// Opens an existing file; [`seed::prepare`](super::seed::prepare) makes one. Blocks for a few
    /// file operations.
    ///
    /// # Errors
    /// When the file is missing, or is no SQLite database.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let first = connect(path)?;
        let pool = Pool {
            path: path.to_owned(),
            idle: Mutex::new(vec![first]),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        };
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Queries so far.
    #[must_use]
    pub fn query_count(&self) -> QueryCount {
        QueryCount {
            reads: self.pool.reads.load(Ordering::Relaxed),
            writes: self.pool.writes.load(Ordering::Relaxed),
        }
    }

    /// Runs a query that only reads, on a thread for blocking work.
    ///
    /// Dropping the future: a query that has begun runs to its end.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.pool.reads.fetch_add(1, Ordering::Relaxed);
        self.run(query).await
    }

    /// Runs a statement that changes rows, like [`read`](Self::read).
    pub(super) async fn write<T: Send + 'static>(
        &self,
        statement: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.write_many(1, statement).await
    }

    /// Runs so many statements that change rows, like [`write`](Self::write).
    pub(super) async fn write_many<T: Send + 'static>(
        &self,
        count: u64,
        statements: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.pool.writes.fetch_add(count, Ordering::Relaxed);
        self.run(statements).await
    }

    async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let permit = Arc::clone(&self.pool.permits).acquire_owned().await?;
        let pool = Arc::clone(&self.pool);
        let answer = spawn_blocking(move || {
            let connection = pool.take()?;
            let answer = query(&connection);
            pool.idle().push(connection);
            drop(permit); // After the push: who gets it finds an idle connection.
            answer
        });
        Ok(answer.await??)
    }
}

impl Pool {
    /// An idle connection, or a new one; the permits bound how many there are.
    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle().pop();
        idle.map_or_else(|| connect(&self.path), Ok)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(16);
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -16384; -- KiB
         PRAGMA mmap_size = 268435456;",
    )?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::seed::{self, Size};

    fn small() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        seed::prepare(&path, Size::SMALL, |_| {}).unwrap();
        (dir, Database::open(&path).unwrap())
    }

    #[test]
    fn a_missing_file_is_an_error_and_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nothing.db");
        assert!(Database::open(&path).is_err());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn more_callers_than_connections_are_all_answered_and_counted() {
        let (_dir, database) = small();
        let calls: Vec<_> = (0..CONNECTIONS as u64 * 10)
            .map(|n| {
                let database = database.clone();
                tokio::spawn(async move { database.read(move |_| Ok(n)).await })
            })
            .collect();
        let mut sum = 0;
        for call in calls {
            sum += call.await.unwrap().unwrap();
        }
        assert_eq!(sum, (0..80).sum::<u64>());
        assert_eq!(database.query_count(), QueryCount { reads: 80, writes: 0 });
        assert!(database.pool.idle().len() <= CONNECTIONS);
    }

    #[tokio::test]
    async fn a_query_that_panics_costs_its_connection_and_nothing_else() {
        let (_dir, database) = small();
        for _ in 0..=CONNECTIONS {
            let answer = database.read(|_| -> rusqlite::Result<()> { panic!("as asked") }).await;
            assert!(matches!(answer, Err(DatabaseError::Unfinished(_))));
        }
        assert_eq!(database.read(|_| Ok(7)).await.unwrap(), 7);
    }
}
