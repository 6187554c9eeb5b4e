//! A SQLite file as the source of a write-behind.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cachalot::{Source, Write};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Numbers by number, in one table. What comes again, as it does after a crash, is known by its writer and sequence.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
    adds: bool,
}

/// A row as it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which key.
    pub key: u64,
    /// `None`: deleted.
    pub value: Option<i64>,
    /// What it would be had the source taken whatever came, however often.
    pub heedless: Option<i64>,
}

impl Ledger {
    /// A ledger in which the last value counts.
    pub fn of_values(file: &Path) -> Self {
        Self::open(file, false)
    }

    /// A ledger whose values are added up.
    pub fn of_sums(file: &Path) -> Self {
        Self::open(file, true)
    }

    fn open(file: &Path, adds: bool) -> Self {
        let connection = Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        // A kill takes nothing that the system has; a loss of power is not what is tried here.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
        let table = "CREATE TABLE IF NOT EXISTS ledger (
            key INTEGER PRIMARY KEY, value INTEGER, heedless INTEGER, writer BLOB NOT NULL, sequence INTEGER NOT NULL)";
        connection.execute_batch(table).unwrap();
        Self { connection: Mutex::new(connection), adds }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows, by key.
    pub fn entries(&self) -> Vec<Entry> {
        let connection = self.lock();
        let mut rows = connection.prepare("SELECT key, value, heedless FROM ledger ORDER BY key").unwrap();
        let entry = |row: &Row<'_>| {
            Ok(Entry { key: row.get::<_, i64>(0)? as u64, value: row.get(1)?, heedless: row.get(2)? })
        };
        rows.query_map([], entry).unwrap().map(Result::unwrap).collect()
    }

    /// The statement that takes one write: a newer one changes the row, one that was seen before does not.
    fn statement(&self) -> &'static str {
        if self.adds {
            "INSERT INTO ledger VALUES (?1, ?2, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE SET
                value = value + ?2 * (writer <> ?3 OR sequence < ?4), heedless = heedless + ?2,
                writer = ?3, sequence = max(sequence * (writer = ?3), ?4)"
        } else {
            "INSERT INTO ledger VALUES (?1, ?2, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE SET
                value = iif(writer <> ?3 OR sequence < ?4, ?2, value), heedless = ?2,
                writer = ?3, sequence = max(sequence * (writer = ?3), ?4)"
        }
    }
}

#[async_trait]
impl Source<u64, i64> for Ledger {
    type Error = rusqlite::Error;

    async fn load(&self, key: &u64) -> rusqlite::Result<Option<i64>> {
        let row = "SELECT value FROM ledger WHERE key = ?1";
        Ok(self.lock().query_row(row, [*key as i64], |row| row.get(0)).optional()?.flatten())
    }

    async fn store(&self, key: &u64, value: &i64) -> rusqlite::Result<()> {
        self.apply(&[Write { key, value: Some(value), sequence: 0, writer: 0 }]).await
    }

    async fn delete(&self, key: &u64) -> rusqlite::Result<()> {
        self.apply(&[Write { key, value: None, sequence: 0, writer: 0 }]).await
    }

    async fn apply(&self, writes: &[Write<'_, u64, i64>]) -> rusqlite::Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for write in writes {
            let writer = write.writer.to_le_bytes();
            let sequence = write.sequence as i64;
            let mut statement = transaction.prepare_cached(self.statement())?;
            statement.execute(params![*write.key as i64, write.value.copied(), writer, sequence])?;
        }
        transaction.commit()
    }
}
