//! Removing by a pattern: SCAN, a page at a time, and a script over what it finds.

use std::ops::ControlFlow;

use cachalot_core::{KeyPattern, Pattern, SweepCursor, Swept};
use redis::{Cmd, Pipeline, Value};

use crate::fault::Fault;
use crate::link::{Again, Link, Request};
use crate::name::{LONGEST, key_in};
use crate::reply::Reply;
use crate::script::{self, Script};

/// How many keys the server looks at for one page, a millisecond or two: nobody waits for longer.
const KEYS_PER_PAGE: usize = 1_000;
/// How many keys one run of the script removes.
const KEYS_PER_SCRIPT: usize = 250;
/// Servers give up on patterns with very many `*`.
const MOST_STARS: usize = 100;

/// Where the server goes on, and on which connection it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    connection: u64,
    cursor: u64,
}

impl Place {
    fn read(cursor: &SweepCursor) -> Result<Option<Self>, Fault> {
        let numbers = match cursor.as_bytes() {
            [] => return Ok(None),
            bytes => std::str::from_utf8(bytes).ok().and_then(|text| text.split_once(' ')),
        };
        let place = numbers.and_then(|(connection, cursor)| {
            Some(Self { connection: connection.parse().ok()?, cursor: cursor.parse().ok()? })
        });
        place.map(Some).ok_or(Fault::Garbled("the cursor is not of this backend"))
    }

    fn write(self) -> SweepCursor {
        SweepCursor::new(format!("{} {}", self.connection, self.cursor))
    }
}

/// One part of a sweep.
pub(crate) async fn sweep(
    link: &Link,
    key_prefix: &[u8],
    pattern: &KeyPattern,
    from: &SweepCursor,
) -> Result<Swept, Fault> {
    let from = Place::read(from)?;
    let filter = Filter::new(key_prefix, pattern.as_pattern());
    let (place, names) = match page(link, &filter, from).await? {
        ControlFlow::Continue(page) => page,
        // Another server may have answered, whose cursors mean something else.
        ControlFlow::Break(()) => return Ok(Swept { removed: 0, next: Some(SweepCursor::START) }),
    };
    let meant: Vec<Vec<u8>> = names.into_iter().filter(|name| filter.is_meant(name)).collect();
    let removed = remove(link, &meant).await?;
    Ok(Swept { removed, next: (place.cursor != 0).then(|| place.write()) })
}

/// Which names in the server are meant.
struct Filter<'a> {
    key_prefix: &'a [u8],
    keys: &'a Pattern,
    /// What the server is asked for: all that is meant, and perhaps more.
    wide: Pattern,
    /// Whether it is no more.
    is_exact: bool,
}

impl<'a> Filter<'a> {
    fn new(key_prefix: &'a [u8], keys: &'a Pattern) -> Self {
        // Of a long key's name only the start is the key's.
        let widened = keys.widened(LONGEST);
        let is_exact = widened == *keys && keys.stars() <= MOST_STARS;
        let wide = Pattern::literal(key_prefix).then(widened);
        Self { key_prefix, keys, wide, is_exact }
    }

    /// A long key is meant if what is kept of it leaves that open: rather one too many than one too few.
    fn is_meant(&self, name: &[u8]) -> bool {
        if self.is_exact {
            return true;
        }
        match key_in(self.key_prefix, name) {
            None => false,
            Some((key, true)) => self.keys.matches(key),
            Some((start, false)) => {
                self.keys.matches_start(start) || self.keys.matches(&name[self.key_prefix.len()..])
            }
        }
    }
}

type Page = (Place, Vec<Vec<u8>>);

/// Some names, perhaps none, perhaps some twice, and where to go on. Breaks off if the connection is another than
/// that of `from`.
async fn page(link: &Link, filter: &Filter<'_>, from: Option<Place>) -> Result<ControlFlow<(), Page>, Fault> {
    let cursor = from.map_or(0, |from| from.cursor);
    let mut scan = Cmd::new();
    scan.arg("SCAN").arg(cursor).arg("MATCH").arg(filter.wide.as_bytes()).arg("COUNT").arg(KEYS_PER_PAGE);
    let answer = link.exchange(Request::One(&scan), Again::Once).await?;
    let connection = answer.connection();
    if from.is_some_and(|from| from.connection != connection) {
        return Ok(ControlFlow::Break(()));
    }
    let (cursor, names) = read_page(answer.value.extract_error()?)?;
    Ok(ControlFlow::Continue((Place { connection, cursor }, names)))
}

fn read_page(reply: Value) -> Result<(u64, Vec<Vec<u8>>), Fault> {
    const GARBLED: Fault = Fault::Garbled("SCAN answered no page");
    let Value::Array(parts) = reply else { return Err(GARBLED) };
    let [Value::BulkString(cursor), Value::Array(names)] =
        <[Value; 2]>::try_from(parts).map_err(|_| GARBLED)?
    else {
        return Err(GARBLED);
    };
    let cursor = std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok()).ok_or(GARBLED)?;
    let name = |name| match name {
        Value::BulkString(name) => Ok(name),
        _ => Err(GARBLED),
    };
    Ok((cursor, names.into_iter().map(name).collect::<Result<_, _>>()?))
}

/// Removes `names` in one go, and gives the number of those that were there.
async fn remove(link: &Link, names: &[Vec<u8>]) -> Result<u64, Fault> {
    if names.is_empty() {
        return Ok(0);
    }
    let chunks: Vec<&[Vec<u8>]> = names.chunks(KEYS_PER_SCRIPT).collect();
    let mut removed = 0;
    let mut unknown = Vec::new();
    for (chunk, outcome) in chunks.iter().zip(run(link, &chunks, Script::many_by_hash).await?) {
        match outcome {
            Err(Fault::NoScript) => unknown.push(*chunk),
            outcome => removed += outcome?,
        }
    }
    if !unknown.is_empty() {
        for outcome in run(link, &unknown, Script::many_by_text).await? {
            removed += outcome?;
        }
    }
    Ok(removed)
}

async fn run(
    link: &Link,
    chunks: &[&[Vec<u8>]],
    command: fn(&Script, &[Vec<u8>]) -> Cmd,
) -> Result<Vec<Result<u64, Fault>>, Fault> {
    let mut pipeline = Pipeline::with_capacity(chunks.len());
    for chunk in chunks {
        pipeline.add_command(command(&script::SWEEP, chunk));
    }
    let (replies, _) = link.exchange(Request::Many(&pipeline), Again::Once).await?.into_list()?;
    Ok(replies.into_iter().map(|reply| Ok(Reply::read(reply)?.number())).collect())
}
