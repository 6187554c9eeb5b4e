//! Rows in a SQLite file that syncs every commit, and what it was asked.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cachalot_core::Source;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::task::spawn_blocking;

pub(crate) type Value = [u8; 32];

/// One connection for writes, as SQLite has one writer anyway.
pub(crate) struct Rows {
    connection: Arc<Mutex<Connection>>,
    pub(crate) statements: AtomicU64,
    pub(crate) commits: AtomicU64,
}

const STORE: &str =
    "INSERT INTO rows (id, value) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET value = excluded.value";

impl Rows {
    pub(crate) fn open(folder: &Path) -> Self {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(folder.join("rows.db"))?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB NOT NULL);",
            )?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Self {
                connection: Arc::new(Mutex::new(connection)),
                statements: AtomicU64::new(0),
                commits: AtomicU64::new(0),
            },
            Err(error) => panic!("no database: {error}"),
        }
    }

    /// Statements and commits so far.
    pub(crate) fn asked(&self) -> (u64, u64) {
        (self.statements.load(Ordering::Relaxed), self.commits.load(Ordering::Relaxed))
    }

    async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let connection = self.connection.clone();
        let work = move || query(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        match spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => panic!("a query did not finish: {error}"),
        }
    }

    fn count(&self, statements: usize) {
        self.statements.fetch_add(statements as u64, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Source<u64, Value> for Rows {
    type Error = rusqlite::Error;

    async fn load(&self, id: &u64) -> rusqlite::Result<Option<Value>> {
        let id = *id as i64;
        let load = move |connection: &Connection| {
            let mut query = connection.prepare_cached("SELECT value FROM rows WHERE id = ?1")?;
            query.query_row([id], |row| row.get(0)).optional()
        };
        self.run(load).await
    }

    async fn store(&self, id: &u64, value: &Value) -> rusqlite::Result<()> {
        self.count(1);
        let (id, value) = (*id as i64, *value);
        self.run(move |connection| connection.prepare_cached(STORE)?.execute(params![id, value])).await?;
        Ok(())
    }

    async fn store_many(&self, items: &[(&u64, &Value)]) -> rusqlite::Result<()> {
        self.count(items.len());
        let items: Vec<(i64, Value)> = items.iter().map(|(id, value)| (**id as i64, **value)).collect();
        let store = move |connection: &Connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut store = transaction.prepare_cached(STORE)?;
            for (id, value) in items {
                store.execute(params![id, value])?;
            }
            drop(store);
            transaction.commit()
        };
        self.run(store).await
    }

    async fn delete(&self, id: &u64) -> rusqlite::Result<()> {
        self.count(1);
        let id = *id as i64;
        self.run(move |connection| connection.execute("DELETE FROM rows WHERE id = ?1", [id])).await?;
        Ok(())
    }
}
