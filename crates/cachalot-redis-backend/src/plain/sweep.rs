//! Removing by a pattern: SCAN over locks, then over values, and a script over what is found.

use cachalot_core::{KeyPattern, Pattern, Removed, SweepCursor, Swept};
use redis::Cmd;

use super::{backend, names};
use crate::fault::Fault;
use crate::link::Link;
use crate::mget;
use crate::scan::{self, Place, Scanned};

/// How many keys the server looks at for one page.
const KEYS_PER_PAGE: usize = 1_000;
/// Servers give up on patterns with very many `*`, and on very long ones.
const LONGEST: usize = 512;

/// What the walk is over: the locks first. Whoever has taken one since began to load after the removal did; who had
/// one before stores no more, or has stored what the second walk finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Locks,
    Values,
}

/// One part of a sweep.
pub(super) async fn sweep(
    link: &Link,
    key_prefix: &[u8],
    pattern: &KeyPattern,
    from: &SweepCursor,
) -> Result<Swept, Fault> {
    let (over, from) = read(from)?;
    let keys = pattern.as_pattern();
    let start = match over {
        Over::Locks => names::lock(key_prefix),
        Over::Values => key_prefix.to_vec(),
    };
    let wide = Pattern::literal(&start).then(keys.widened(LONGEST));
    let mut command = Cmd::new();
    command.arg("SCAN").arg(from.cursor()).arg("MATCH").arg(wide.as_bytes());
    command.arg("COUNT").arg(KEYS_PER_PAGE);
    let (items, next) = match scan::page(link, &command, from).await? {
        Scanned::Page { items, next, .. } => (items, next),
        Scanned::Anew => return Ok(Swept { removed: 0, next: Some(SweepCursor::START) }),
    };
    let pair = |name: Vec<u8>| {
        let bare = match over {
            Over::Locks => names::locked(&name)?.to_vec(),
            Over::Values => name,
        };
        let is_meant = keys.matches(bare.strip_prefix(key_prefix)?) && names::check(&bare).is_ok();
        let lock = names::lock(&bare);
        is_meant.then_some([bare, lock])
    };
    let pairs: Vec<_> = items.into_iter().filter_map(mget::bytes).filter_map(pair).collect();
    let removed = backend::remove(link, &pairs).await?;
    let removed = removed.iter().filter(|removed| **removed != Removed::Nothing).count() as u64;
    Ok(Swept { removed, next: go_on(over, next) })
}

/// Where a cursor is: `v` stands before a place among the values.
fn read(cursor: &SweepCursor) -> Result<(Over, Place), Fault> {
    match cursor.as_bytes().strip_prefix(b"v") {
        Some(place) => Ok((Over::Values, Place::read(&SweepCursor::new(place.to_vec()))?)),
        None => Ok((Over::Locks, Place::read(cursor)?)),
    }
}

fn go_on(over: Over, next: Option<Place>) -> Option<SweepCursor> {
    let among_values = |place: Place| SweepCursor::new([b"v", place.write().as_bytes()].concat());
    match (over, next) {
        (Over::Locks, Some(place)) => Some(place.write()),
        (Over::Locks, None) => Some(among_values(Place::START)),
        (Over::Values, next) => next.map(among_values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_after_locks_and_then_nothing() {
        assert_eq!(read(&SweepCursor::START).unwrap(), (Over::Locks, Place::START));
        let second = go_on(Over::Locks, None).unwrap();
        assert_eq!(read(&second).unwrap(), (Over::Values, Place::START));
        assert_eq!(go_on(Over::Values, None), None);
        assert!(read(&SweepCursor::new("v nonsense")).is_err());
    }

    #[test]
    fn a_place_is_found_again_in_either_walk() {
        let place = Place::read(&SweepCursor::new("3 17")).unwrap();
        for over in [Over::Locks, Over::Values] {
            assert_eq!(read(&go_on(over, Some(place)).unwrap()).unwrap(), (over, place));
        }
    }
}
