//! Invalidations that no crash loses: written to the database by the transaction that makes them necessary, and
//! brought to the cache by a relay once that has committed.
//!
//! ```text
//! BEGIN · UPDATE products … · INSERT INTO outbox … · COMMIT      the change and its invalidation, both or neither
//!                              relay: SELECT … ORDER BY id · cache.remove · DELETE FROM outbox WHERE id = …
//! ```
//!
//! A row is deleted once the cache has taken it: [`Removal::Removed`]. So each is done at least once, in the order
//! of the rows; done again it is harmless. One that the shared tier could not take stays, and so do all after it.
//! Nothing of this knows the shop: copy the file.

use std::hash::Hash;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cachalot::units::{millis, seconds};
use cachalot::{Cache, CacheKey, Removal, Tag};
use rusqlite::{Connection, Transaction, params};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// What is no longer true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale<'a, K> {
    /// What is cached under this key.
    Key(&'a K),
    /// All that has this tag.
    Tag(&'a str),
}

/// Makes the table, if there is none.
///
/// # Errors
/// SQLite's.
pub fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS outbox
             (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name BLOB NOT NULL) STRICT",
    )
}

/// Notes in the transaction that changes the data what the change makes wrong. It is told to nobody if that is
/// rolled back.
///
/// # Errors
/// SQLite's.
pub fn record<K: CacheKey>(transaction: &Transaction<'_>, stale: Stale<'_, K>) -> rusqlite::Result<()> {
    let (kind, name) = match stale {
        Stale::Key(key) => (KEY, key.to_key_bytes()),
        Stale::Tag(tag) => (TAG, tag.as_bytes().to_vec()),
    };
    transaction.execute("INSERT INTO outbox (kind, name) VALUES (?1, ?2)", params![kind, name])?;
    Ok(())
}

const KEY: &str = "key";
const TAG: &str = "tag";

/// Brings to a cache what transactions have noted. There may be one in each process: a row that two of them take is
/// done twice.
#[derive(Debug)]
pub struct Relay<K, V> {
    connection: Arc<Mutex<Connection>>,
    cache: Cache<K, V>,
    committed: Arc<Notify>,
}

/// What came of one look at the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Rows that are done and gone.
    pub done: usize,
    /// Whether one could not be done now, and stays with those after it.
    pub is_stuck: bool,
}

/// How many rows are read at once.
const ROWS_AT_ONCE: u32 = 100;
/// How long a commit may go unnoticed that nobody told the relay of: another process's.
const LOOK: Duration = seconds(1);
/// How soon it is tried again what could not be done.
const PAUSE: Duration = millis(200);

struct Row {
    id: i64,
    kind: String,
    name: Vec<u8>,
}

impl<K, V> Relay<K, V>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A relay from the database in the file `path` to `cache`, with a connection of its own.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(path: &Path, cache: Cache<K, V>) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(seconds(5))?;
        create(&connection)?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, cache, committed: Arc::default() })
    }

    /// To be notified after each commit, so that nobody has to wait for the next look.
    #[must_use]
    pub fn committed(&self) -> Arc<Notify> {
        self.committed.clone()
    }

    /// Relays until its task is aborted, which loses nothing: what was under way is done again by the next one.
    pub async fn run(self) {
        loop {
            match self.pass().await {
                Ok(Relayed { is_stuck: false, done: 0 }) => {
                    // Whichever comes first.
                    let _ = timeout(LOOK, self.committed.notified()).await;
                }
                Ok(Relayed { is_stuck: false, .. }) => {}
                Ok(_) | Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Does what is noted by now, up to a hundred rows.
    ///
    /// # Errors
    /// The database's. What was done by then may be done again.
    ///
    /// # Dropping the future
    /// As an error.
    pub async fn pass(&self) -> anyhow::Result<Relayed> {
        let rows = self.query(rows).await?;
        let mut relayed = Relayed::default();
        for row in rows {
            if self.invalidate(&row).await? == Removal::Deferred {
                // The cache tries it again by itself, as long as this process lives.
                relayed.is_stuck = true;
                break;
            }
            self.query(move |connection| connection.execute("DELETE FROM outbox WHERE id = ?1", [row.id]))
                .await?;
            relayed.done += 1;
        }
        Ok(relayed)
    }

    async fn invalidate(&self, row: &Row) -> cachalot::Result<Removal> {
        match (row.kind.as_str(), K::read_key(&row.name)) {
            (KEY, Some(key)) => self.cache.remove(&key).await,
            (TAG, _) if Tag::new(&row.name).is_ok() => self.cache.remove_tag(&row.name).await,
            // Of a release that knows more: what it is about is not known here.
            _ => self.cache.clear().await,
        }
    }

    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let connection = self.connection.clone();
        let work = move || query(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(spawn_blocking(work).await??)
    }
}

/// The oldest. Not those after the last that was read: a number may be given to one transaction and seen after
/// that of a later one, in other databases than this.
fn rows(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut query = connection.prepare_cached("SELECT id, kind, name FROM outbox ORDER BY id LIMIT ?1")?;
    let row = |row: &rusqlite::Row<'_>| Ok(Row { id: row.get(0)?, kind: row.get(1)?, name: row.get(2)? });
    query.query_map([ROWS_AT_ONCE], row)?.collect()
}
