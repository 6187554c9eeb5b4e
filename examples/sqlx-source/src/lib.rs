//! A table behind sqlx as the [`Source`] of a cache: the file to copy. SQLite here; what another database needs is
//! said where it differs.
//!
//! Many rows are one query, and many writes one transaction: what a batch, a `put_many` or a write-behind asks for
//! together costs one round trip to the database or one commit.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use cachalot::Source;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

/// A row, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Full name.
    pub name: String,
    /// Address for mail.
    pub email: String,
}

/// The table of users, behind a pool. A cheap clone.
#[derive(Clone, Debug)]
pub struct Users {
    pool: SqlitePool,
}

const LOAD: &str = "SELECT name, email FROM users WHERE id = ?1";

/// Postgres: `WHERE id = ANY($1)`, with the keys bound as they are.
const LOAD_MANY: &str = "SELECT id, name, email FROM users WHERE id IN (SELECT value FROM json_each(?1))";

const STORE: &str = "INSERT INTO users (id, name, email) VALUES (?1, ?2, ?3)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email";

const DELETE: &str = "DELETE FROM users WHERE id = ?1";

const DELETE_MANY: &str = "DELETE FROM users WHERE id IN (SELECT value FROM json_each(?1))";

impl Users {
    /// Opens the file at `path`, and makes file and table if they are missing.
    ///
    /// # Errors
    /// sqlx's.
    pub async fn open(path: &Path) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL)")
            .execute(&pool)
            .await?;
        Ok(Self { pool })
    }

    /// Ends when all its connections have.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// An error says that a write was not done. That is so with SQLite, and with what comes before a commit anywhere; but
/// a connection that breaks while a server commits leaves it open: there wait for the answer of a new connection, or
/// let the call hang, and the cache takes the write for unknown.
#[async_trait]
impl Source<i64, User> for Users {
    type Error = sqlx::Error;

    async fn load(&self, id: &i64) -> sqlx::Result<Option<User>> {
        let row = sqlx::query_as(LOAD).bind(id).fetch_optional(&self.pool).await?;
        Ok(row.map(|(name, email)| User { name, email }))
    }

    async fn load_many(&self, ids: &[i64]) -> sqlx::Result<Vec<Option<User>>> {
        let rows = sqlx::query_as(LOAD_MANY).bind(list(ids)?).fetch_all(&self.pool).await?;
        let found: HashMap<i64, User> =
            rows.into_iter().map(|(id, name, email)| (id, User { name, email })).collect();
        // One key may stand there twice.
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    async fn store(&self, id: &i64, user: &User) -> sqlx::Result<()> {
        sqlx::query(STORE).bind(id).bind(&user.name).bind(&user.email).execute(&self.pool).await?;
        Ok(())
    }

    async fn store_many(&self, users: &[(&i64, &User)]) -> sqlx::Result<()> {
        let mut transaction = self.pool.begin().await?;
        for (id, user) in users {
            let store = sqlx::query(STORE).bind(**id).bind(&user.name).bind(&user.email);
            store.execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    async fn delete(&self, id: &i64) -> sqlx::Result<()> {
        sqlx::query(DELETE).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    async fn delete_many(&self, ids: &[&i64]) -> sqlx::Result<()> {
        sqlx::query(DELETE_MANY).bind(list(ids)?).execute(&self.pool).await?;
        Ok(())
    }
}

/// What `json_each` reads: one parameter however many there are, and so one statement to prepare.
fn list<T: serde::Serialize>(ids: &[T]) -> sqlx::Result<String> {
    serde_json::to_string(ids).map_err(|error| sqlx::Error::Encode(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User { name: name.to_owned(), email: format!("{name}@example.com") }
    }

    async fn users() -> (tempfile::TempDir, Users) {
        let directory = tempfile::tempdir().unwrap();
        let users = Users::open(&directory.path().join("users.db")).await.unwrap();
        (directory, users)
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_keys() {
        let (_directory, users) = users().await;
        users.store_many(&[(&1, &user("ada")), (&2, &user("grace"))]).await.unwrap();
        let found = users.load_many(&[2, 9, 1, 2]).await.unwrap();
        assert_eq!(found, [Some(user("grace")), None, Some(user("ada")), Some(user("grace"))]);
        assert_eq!(users.load_many(&[]).await.unwrap(), []);
    }

    #[tokio::test]
    async fn the_last_of_several_writes_to_a_key_is_what_stays() {
        let (_directory, users) = users().await;
        users.store_many(&[(&1, &user("ada")), (&1, &user("grace"))]).await.unwrap();
        assert_eq!(users.load(&1).await.unwrap(), Some(user("grace")));
        users.store(&1, &user("edsger")).await.unwrap();
        assert_eq!(users.load(&1).await.unwrap(), Some(user("edsger")));
    }

    #[tokio::test]
    async fn what_is_deleted_is_gone_and_the_rest_is_not() {
        let (_directory, users) = users().await;
        users.store_many(&[(&1, &user("a")), (&2, &user("b")), (&3, &user("c"))]).await.unwrap();
        users.delete_many(&[&1, &3, &9]).await.unwrap();
        users.delete(&9).await.unwrap();
        assert_eq!(users.load_many(&[1, 2, 3]).await.unwrap(), [None, Some(user("b")), None]);
    }

    #[tokio::test]
    async fn of_writes_of_which_one_is_refused_none_is_done() {
        let (_directory, users) = users().await;
        let long = "CREATE TRIGGER no BEFORE INSERT ON users WHEN NEW.name = 'no' BEGIN SELECT RAISE(ABORT, 'no'); END";
        sqlx::query(long).execute(&users.pool).await.unwrap();
        assert!(users.store_many(&[(&1, &user("ada")), (&2, &user("no"))]).await.is_err());
        assert_eq!(users.load(&1).await.unwrap(), None);
    }
}
