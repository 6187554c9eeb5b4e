//! Who is signed in: a row for each session, from sign-in to sign-out.

use rusqlite::{OptionalExtension, params};

use super::{Database, DatabaseError, Session, UserId};

const SESSION: &str =
    "SELECT s.user_id, u.name FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ?1";

const SIGN_IN: &str = "INSERT INTO sessions (id, user_id) SELECT ?1, id FROM users WHERE id = ?2";

const SIGN_OUT: &str = "DELETE FROM sessions WHERE id = ?1";

impl Database {
    /// Whose session it is. `None` if there is none of this name.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn session(&self, id: String) -> Result<Option<Session>, DatabaseError> {
        self.read(move |connection| {
            let mut query = connection.prepare_cached(SESSION)?;
            let session =
                |row: &rusqlite::Row<'_>| Ok(Session { user: UserId(row.get(0)?), name: row.get(1)? });
            query.query_row([id], session).optional()
        })
        .await
    }

    /// Begins a session, and gives its name. `None` if there is no such user.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn sign_in(&self, user: UserId) -> Result<Option<String>, DatabaseError> {
        // Names that cannot be guessed want the system's generator; this is a demo.
        let id = format!("{:032x}", fastrand::u128(..));
        let name = id.clone();
        let begun = self
            .write(move |connection| connection.prepare_cached(SIGN_IN)?.execute(params![name, user.0]))
            .await?;
        Ok((begun > 0).then_some(id))
    }

    /// Ends a session; one that is none is over already.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn sign_out(&self, id: String) -> Result<(), DatabaseError> {
        self.write(move |connection| connection.prepare_cached(SIGN_OUT)?.execute([id])).await?;
        Ok(())
    }
}
