//! A database that fails, and takes its time, now and then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot::Source;
use cachalot_core::Entropy;
use integration_tests::{SqliteError, SqliteSource};
use tokio::time::sleep;

use super::HOLD_TERM;

/// As one process reaches it. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Flaky {
    database: SqliteSource,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    lots: Entropy,
    is_calm: AtomicBool,
    /// Writes that the database has taken, and whose callers do not know yet.
    between: AtomicI64,
}

#[derive(Debug)]
pub(super) enum FlakyError {
    Refused,
    Sqlite(SqliteError),
}

impl Flaky {
    pub(super) fn new(database: SqliteSource, lots: Entropy) -> Self {
        let state = State { lots, is_calm: AtomicBool::new(false), between: AtomicI64::new(0) };
        Self { database, state: Arc::new(state) }
    }

    pub(super) fn calm(&self) {
        self.state.is_calm.store(true, Ordering::SeqCst);
    }

    pub(super) fn flare_up(&self) {
        self.state.is_calm.store(false, Ordering::SeqCst);
    }

    /// Whether the database has taken what the cache has not.
    pub(super) fn is_between(&self) -> bool {
        self.state.between.load(Ordering::SeqCst) > 0
    }

    /// The caller of a write that the database has taken knows it.
    pub(super) fn answered(&self) {
        self.state.between.fetch_sub(1, Ordering::SeqCst);
    }

    fn lot(&self) -> u64 {
        if self.state.is_calm.load(Ordering::SeqCst) { 99 } else { self.state.lots.draw_u64() % 100 }
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T, SqliteError>>) -> Result<T, FlakyError> {
        let lot = self.lot();
        if lot < 3 {
            return Err(FlakyError::Refused);
        }
        let rows = read.await?;
        if lot < 20 {
            sleep(Duration::from_millis(lot)).await;
        }
        Ok(rows)
    }

    async fn write(&self, write: impl Future<Output = Result<(), SqliteError>>) -> Result<(), FlakyError> {
        let lot = self.lot();
        if lot < 4 {
            return Err(FlakyError::Refused);
        }
        write.await?;
        self.state.between.fetch_add(1, Ordering::SeqCst);
        match lot {
            // It has taken it, and does not say so in time.
            4 | 5 => sleep(HOLD_TERM).await,
            6..20 => sleep(Duration::from_millis(lot)).await,
            _ => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Source<u64, String> for Flaky {
    type Error = FlakyError;

    async fn load(&self, key: &u64) -> Result<Option<String>, FlakyError> {
        self.read(self.database.load(key)).await
    }

    async fn load_many(&self, keys: &[u64]) -> Result<Vec<Option<String>>, FlakyError> {
        self.read(self.database.load_many(keys)).await
    }

    async fn store(&self, key: &u64, value: &String) -> Result<(), FlakyError> {
        self.write(self.database.store(key, value)).await
    }

    async fn store_many(&self, items: &[(&u64, &String)]) -> Result<(), FlakyError> {
        self.write(self.database.store_many(items)).await
    }

    async fn delete(&self, key: &u64) -> Result<(), FlakyError> {
        self.write(self.database.delete(key)).await
    }
}

impl From<SqliteError> for FlakyError {
    fn from(error: SqliteError) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for FlakyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("the database refuses"),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FlakyError {}
