//! A real database as the source of a cache.

use std::error::Error;
use std::fmt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cachalot::Source;
use cachalot_core::Write;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::task::spawn_blocking;

/// Rows of text in a SQLite file, with a log of all that was ever written, in the order of the commits. Clones are the
/// same database.
///
/// Each call of [`Source`] is one statement or one transaction, done on a thread that may wait; readers do not wait for
/// writers.
#[derive(Clone)]
pub struct SqliteSource {
    database: Arc<Database>,
}

struct Database {
    path: PathBuf,
    /// Writers take turns here rather than by polling the file's lock.
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    patience: Duration,
}

/// Why a [`SqliteSource`] has not done what it was asked.
#[derive(Debug)]
pub enum SqliteError {
    /// The database says so.
    Sqlite(rusqlite::Error),
    /// Its turn did not come in time. Nothing was written, and nothing will be.
    TooLate,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS rows (key INTEGER PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS log (version INTEGER PRIMARY KEY, key INTEGER NOT NULL, value TEXT);
    CREATE INDEX IF NOT EXISTS versions ON log (key, value);
    CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON rows
        BEGIN INSERT INTO log (key, value) VALUES (new.key, new.value); END;
    CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE ON rows
        BEGIN INSERT INTO log (key, value) VALUES (new.key, new.value); END;
    CREATE TRIGGER IF NOT EXISTS gone AFTER DELETE ON rows
        BEGIN INSERT INTO log (key, value) VALUES (old.key, NULL); END;
";
const STORE: &str = "INSERT INTO rows VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
const DELETE: &str = "DELETE FROM rows WHERE key = ?1";

impl SqliteSource {
    /// Opens the file at `path`, which is made if it is not there. A write whose turn does not come within `patience` is
    /// not done.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(path: &Path, patience: Duration) -> Result<Self, SqliteError> {
        let writer = connect(path)?;
        writer.execute_batch(SCHEMA)?;
        let database = Database {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            patience,
        };
        Ok(Self { database: Arc::new(database) })
    }

    /// The place of the latest write of `value` to `key` among all writes.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn version_of(&self, key: u64, value: &str) -> Result<Option<u64>, SqliteError> {
        let value = value.to_owned();
        let select = "SELECT max(version) FROM log WHERE key = ?1 AND value = ?2";
        self.read(move |file| file.prepare_cached(select)?.query_row(params![key, value], |row| row.get(0)))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let database = self.database.clone();
        blocking(move || {
            let idle = database.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let file = idle.map_or_else(|| connect(&database.path), Ok)?;
            let answer = query(&file)?;
            database.readers.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            Ok(answer)
        })
        .await
    }

    /// Does `change` as one transaction.
    async fn write(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), SqliteError> {
        let (database, began) = (self.database.clone(), Instant::now());
        blocking(move || {
            let mut file = database.writer.lock().unwrap_or_else(PoisonError::into_inner);
            if began.elapsed() > database.patience {
                return Err(SqliteError::TooLate);
            }
            let transaction = file.transaction()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

#[async_trait]
impl Source<u64, String> for SqliteSource {
    type Error = SqliteError;

    async fn load(&self, key: &u64) -> Result<Option<String>, SqliteError> {
        let key = *key;
        self.read(move |file| row(file, key)).await
    }

    async fn load_many(&self, keys: &[u64]) -> Result<Vec<Option<String>>, SqliteError> {
        let keys = keys.to_vec();
        self.read(move |file| {
            // What one statement sees was there at one time; so that all are, it is one transaction.
            let all = file.unchecked_transaction()?;
            keys.into_iter().map(|key| row(&all, key)).collect()
        })
        .await
    }

    async fn store(&self, key: &u64, value: &String) -> Result<(), SqliteError> {
        self.store_many(&[(key, value)]).await
    }

    async fn store_many(&self, items: &[(&u64, &String)]) -> Result<(), SqliteError> {
        let items: Vec<_> = items.iter().map(|(key, value)| (**key, (*value).clone())).collect();
        self.write(move |all| items.iter().try_for_each(|(key, value)| store(all, *key, value))).await
    }

    async fn delete(&self, key: &u64) -> Result<(), SqliteError> {
        self.delete_many(&[key]).await
    }

    async fn delete_many(&self, keys: &[&u64]) -> Result<(), SqliteError> {
        let keys: Vec<u64> = keys.iter().map(|key| **key).collect();
        self.write(move |all| keys.iter().try_for_each(|key| delete(all, *key))).await
    }

    async fn apply(&self, writes: &[Write<'_, u64, String>]) -> Result<(), SqliteError> {
        let writes: Vec<_> = writes.iter().map(|write| (*write.key, write.value.cloned())).collect();
        self.write(move |all| {
            writes.iter().try_for_each(|(key, value)| match value {
                Some(value) => store(all, *key, value),
                None => delete(all, *key),
            })
        })
        .await
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let file = Connection::open(path)?;
    file.busy_timeout(Duration::from_secs(10))?;
    file.pragma_update(None, "journal_mode", "WAL")?;
    file.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(file)
}

fn row(file: &Connection, key: u64) -> rusqlite::Result<Option<String>> {
    file.prepare_cached("SELECT value FROM rows WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn store(all: &Transaction<'_>, key: u64, value: &str) -> rusqlite::Result<()> {
    all.prepare_cached(STORE)?.execute(params![key, value]).map(drop)
}

fn delete(all: &Transaction<'_>, key: u64) -> rusqlite::Result<()> {
    all.prepare_cached(DELETE)?.execute([key]).map(drop)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SqliteError> + Send + 'static,
) -> Result<T, SqliteError> {
    match spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime ends, and so does whoever asks.
        Err(_) => std::future::pending().await,
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => error.fmt(f),
            Self::TooLate => f.write_str("the database is busy"),
        }
    }
}

impl Error for SqliteError {}

impl fmt::Debug for SqliteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSource").field("path", &self.database.path).finish_non_exhaustive()
    }
}
