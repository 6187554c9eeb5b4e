//! For how long stale items have been somebody's.
//!
//! A value that was marked stale is won by one reader, and the server sets no end to that. Whoever meets such an item
//! notes when; if after a whole term it is still the same, its winner is dead, and the item may be marked anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::Timestamp;

use crate::codec::Name;

/// How many are watched. Of one more, another is met anew.
const MOST: usize = 4096;

#[derive(Default)]
pub(crate) struct Watch(Mutex<HashMap<Name, Seen>>);

/// Which version of an item was somebody's, and until when it may be.
struct Seen {
    /// The server's run, which counts anew, and the version.
    cas: (u64, u64),
    until: Timestamp,
}

impl Watch {
    /// How much longer the winner of this version is waited for. Zero: no longer. `None`: it is met for the first time,
    /// and has `term` from now.
    pub(crate) fn remaining(
        &self,
        name: &Name,
        cas: (u64, u64),
        term: Duration,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut seen = self.lock();
        if let Some(seen) = seen.get(name)
            && seen.cas == cas
        {
            return Some(seen.until.since(now));
        }
        note(&mut seen, name, Seen { cas, until: now + term }, now);
        None
    }

    /// Notes that we have won this version for `term`.
    pub(crate) fn won(&self, name: &Name, cas: (u64, u64), term: Duration, now: Timestamp) {
        note(&mut self.lock(), name, Seen { cas, until: now + term }, now);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(seen: &mut HashMap<Name, Seen>, name: &Name, new: Seen, now: Timestamp) {
    if seen.len() >= MOST && !seen.contains_key(name) {
        // What has ended long ago was won, replaced or dropped meanwhile.
        seen.retain(|_, seen| now < seen.until);
        if seen.len() >= MOST
            && let Some(other) = seen.keys().next().cloned()
        {
            seen.remove(&other);
        }
    }
    seen.insert(name.clone(), new);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_winner_is_waited_for_a_term_from_the_first_meeting() {
        let (watch, name) = (Watch::default(), Name::new(b"", b"k"));
        assert_eq!(watch.remaining(&name, (0, 3), TERM, at(10)), None);
        assert_eq!(watch.remaining(&name, (0, 3), TERM, at(13)), Some(Duration::from_secs(2)));
        assert_eq!(watch.remaining(&name, (0, 3), TERM, at(16)), Some(Duration::ZERO));
        assert_eq!(watch.remaining(&name, (1, 3), TERM, at(16)), None, "another server's");
        assert_eq!(watch.remaining(&name, (0, 4), TERM, at(16)), None, "another one");
        watch.won(&name, (0, 5), TERM, at(17));
        assert_eq!(watch.remaining(&name, (0, 5), 2 * TERM, at(18)), Some(Duration::from_secs(4)));
    }

    #[test]
    fn no_more_are_watched_than_fit() {
        let watch = Watch::default();
        for n in 0..2 * MOST {
            watch.won(&Name::new(b"", n.to_string().as_bytes()), (0, 1), TERM, at(10));
        }
        assert_eq!(watch.lock().len(), MOST);
        watch.won(&Name::new(b"", b"late"), (0, 1), TERM, at(15));
        assert_eq!(watch.lock().len(), 1, "all others have ended");
    }
}
