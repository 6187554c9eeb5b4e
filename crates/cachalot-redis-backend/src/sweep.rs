//! Removing by a pattern: SCAN, a page at a time, and a script over what it finds.

use cachalot_core::{KeyPattern, Pattern, SweepCursor, Swept};
use redis::{Cmd, Value};

use crate::fault::Fault;
use crate::link::Link;
use crate::name::{LONGEST, key_in};
use crate::scan::{self, Place, Scanned};
use crate::script;

/// How many keys the server looks at for one page, a millisecond or two: nobody waits for longer.
const KEYS_PER_PAGE: usize = 1_000;
/// How many keys one run of the script removes.
pub(crate) const KEYS_PER_SCRIPT: usize = 250;
/// Servers give up on patterns with very many `*`.
const MOST_STARS: usize = 100;

/// One part of a sweep.
pub(crate) async fn sweep(
    link: &Link,
    key_prefix: &[u8],
    pattern: &KeyPattern,
    from: &SweepCursor,
) -> Result<Swept, Fault> {
    let (names, next) = found(link, key_prefix, pattern, Place::read(from)?).await?;
    Ok(Swept { removed: remove(link, &names).await?, next: next.map(Place::write) })
}

/// The names of some keys that are meant, and where to go on.
pub(crate) async fn found(
    link: &Link,
    key_prefix: &[u8],
    pattern: &KeyPattern,
    from: Place,
) -> Result<(Vec<Vec<u8>>, Option<Place>), Fault> {
    let filter = Filter::new(key_prefix, pattern.as_pattern());
    let mut command = Cmd::new();
    command.arg("SCAN").arg(from.cursor()).arg("MATCH").arg(filter.wide.as_bytes());
    command.arg("COUNT").arg(KEYS_PER_PAGE);
    let (items, next) = match scan::page(link, &command, from).await? {
        Scanned::Page { items, next, .. } => (items, next),
        Scanned::Anew => return Ok((Vec::new(), Some(Place::START))),
    };
    let meant = |item| match item {
        Value::BulkString(name) => filter.is_meant(&name).then_some(Ok(name)),
        _ => Some(Err(Fault::Garbled("SCAN answered no name"))),
    };
    Ok((items.into_iter().filter_map(meant).collect::<Result<_, _>>()?, next))
}

/// Removes what is called `names` in one go, and gives the number of those that were there.
pub(crate) async fn remove(link: &Link, names: &[Vec<u8>]) -> Result<u64, Fault> {
    let chunks: Vec<&[Vec<u8>]> = names.chunks(KEYS_PER_SCRIPT).collect();
    let command = |by, chunk: &&[Vec<u8>]| script::SWEEP.command(by, chunk, &[]);
    let replies = scan::run_each(link, &chunks, command).await?;
    Ok(replies.into_iter().map(|mut reply| reply.number()).sum())
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
            Some((start, false)) => self.keys.matches_start(start),
        }
    }
}
