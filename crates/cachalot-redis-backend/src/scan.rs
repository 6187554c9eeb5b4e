//! Walks over what a server holds, page by page, and scripts over what a page has.

use cachalot_core::SweepCursor;
use redis::{Cmd, Pipeline, Value};

use crate::fault::Fault;
use crate::link::{Again, Link, Request};
use crate::reply::Reply;
use crate::script::By;

/// Where the server goes on, and on which connection it said so: another server would mean another place by the
/// same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// `None` at the start.
    connection: Option<u64>,
    cursor: u64,
}

impl Place {
    pub(crate) const START: Self = Self { connection: None, cursor: 0 };

    pub(crate) fn cursor(self) -> u64 {
        self.cursor
    }

    pub(crate) fn read(cursor: &SweepCursor) -> Result<Self, Fault> {
        if cursor.as_bytes().is_empty() {
            return Ok(Self::START);
        }
        let numbers = std::str::from_utf8(cursor.as_bytes()).ok().and_then(|text| text.split_once(' '));
        let place = numbers.and_then(|(connection, cursor)| {
            Some(Self { connection: Some(connection.parse().ok()?), cursor: cursor.parse().ok()? })
        });
        place.ok_or(Fault::Garbled("the cursor is not of this backend"))
    }

    pub(crate) fn write(self) -> SweepCursor {
        match self.connection {
            Some(connection) => SweepCursor::new(format!("{connection} {}", self.cursor)),
            None => SweepCursor::START,
        }
    }
}

/// What came of a page.
pub(crate) enum Scanned {
    /// Some items, perhaps none, perhaps some twice, and where to go on.
    Page { items: Vec<Value>, now_ms: u64, next: Option<Place> },
    /// The connection is another than before: the walk has to begin anew.
    Anew,
}

/// Sends `scan`, which asks for the page at `from`.
pub(crate) async fn page(link: &Link, scan: &Cmd, from: Place) -> Result<Scanned, Fault> {
    let answer = link.exchange(Request::One(scan), Again::Once).await?;
    let (connection, now_ms) = (answer.connection(), answer.now_ms);
    if from.connection.is_some_and(|before| before != connection) {
        return Ok(Scanned::Anew);
    }
    let (cursor, items) = read_page(answer.value.extract_error()?)?;
    let next = (cursor != 0).then_some(Place { connection: Some(connection), cursor });
    Ok(Scanned::Page { items, now_ms, next })
}

fn read_page(reply: Value) -> Result<(u64, Vec<Value>), Fault> {
    let parts = match reply {
        Value::Array(parts) => <[Value; 2]>::try_from(parts).ok(),
        _ => None,
    };
    let Some([Value::BulkString(cursor), Value::Array(items)]) = parts else {
        return Err(Fault::Garbled("a scan answered no page"));
    };
    let cursor = std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok());
    Ok((cursor.ok_or(Fault::Garbled("a scan answered no cursor"))?, items))
}

/// Runs a script for each of `items` in one go, and gives the answers in their order; makes the server learn it, if
/// it does not know it. Fails if one of them does; others may have been done.
pub(crate) async fn run_each<T>(
    link: &Link,
    items: &[T],
    command: impl Fn(By, &T) -> Cmd,
) -> Result<Vec<Reply>, Fault> {
    try_each(link, items, command).await?.into_iter().collect()
}

/// As [`run_each`], and the outcome of each. The outer fault is that of all.
pub(crate) async fn try_each<T>(
    link: &Link,
    items: &[T],
    command: impl Fn(By, &T) -> Cmd,
) -> Result<Vec<Result<Reply, Fault>>, Fault> {
    let mut replies = run(link, items.iter().map(|item| command(By::Hash, item))).await?;
    if replies.len() != items.len() {
        return Err(Fault::Garbled("a pipeline answered for other commands"));
    }
    let is_unknown = |at: &usize| matches!(replies[*at], Err(Fault::NoScript));
    // Not all of them, perhaps: somebody else may have made it known in between.
    let unknown: Vec<usize> = (0..items.len()).filter(is_unknown).collect();
    let again = run(link, unknown.iter().map(|at| command(By::Text, &items[*at]))).await?;
    for (at, reply) in unknown.into_iter().zip(again) {
        replies[at] = reply;
    }
    Ok(replies)
}

async fn run(
    link: &Link,
    commands: impl ExactSizeIterator<Item = Cmd>,
) -> Result<Vec<Result<Reply, Fault>>, Fault> {
    if commands.len() == 0 {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    let answer = link.exchange(Request::Many(&pipeline), Again::Once).await?;
    let era = answer.era();
    let replies = answer.into_list()?;
    if replies.len() != pipeline.len() {
        return Err(Fault::Garbled("a pipeline answered for other commands"));
    }
    Ok(replies.into_iter().map(|reply| Reply::read(reply, era)).collect())
}
