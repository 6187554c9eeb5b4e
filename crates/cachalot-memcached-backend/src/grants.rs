//! Which right a token stands for: a CAS, good on the connection that gave it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cachalot_core::{Timestamp, Token};

use crate::codec::Name;
use crate::wire::Wire;

/// How many are remembered. Of a right that is forgotten, what stands in the record still counts; one that does not
/// stand there is lost, which costs a load.
const MOST: usize = 1 << 16;
/// For how much longer than its term a right is remembered: it may be used late, as long as nobody else has come.
const LATE: u32 = 4;

/// The rights of this process.
#[derive(Default)]
pub(crate) struct Grants(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_token: HashMap<Token, Grant>,
    /// In the order they came, with when to forget each.
    order: VecDeque<(Timestamp, Token)>,
}

/// A right to store.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) name: Name,
    pub(crate) wire: Weak<Wire>,
    pub(crate) cas: u64,
    pub(crate) right: Right,
}

/// By what it was won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// An empty item that the server put where nothing was.
    Stub,
    /// A value that was marked stale.
    Stale,
    /// The token stands in the record.
    Written,
    /// A writer's hold; the token stands in the record.
    Held,
}

impl Grants {
    pub(crate) fn add(&self, token: Token, grant: Grant, term: Duration, now: Timestamp) {
        let mut known = self.lock();
        known.forget(now);
        known.order.push_back((now + term.saturating_mul(LATE), token));
        known.by_token.insert(token, grant);
    }

    /// The right of `token` to `name`, if its connection still stands.
    pub(crate) fn find(&self, token: Token, name: &Name) -> Option<(Arc<Wire>, Grant)> {
        let known = self.lock();
        let grant = known.by_token.get(&token).filter(|grant| grant.name == *name)?;
        let wire = grant.wire.upgrade().filter(|wire| wire.is_alive())?;
        Some((wire, grant.clone()))
    }

    pub(crate) fn forget(&self, token: Token) {
        self.lock().by_token.remove(&token);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Makes room for one more.
    fn forget(&mut self, now: Timestamp) {
        while let Some((until, token)) = self.order.front()
            && (*until <= now || self.order.len() >= MOST || !self.by_token.contains_key(token))
        {
            self.by_token.remove(token);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use cachalot_core::Entropy;

    use super::*;

    const TERM: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn grant() -> Grant {
        Grant { name: Name::new(b"", b"k"), wire: Weak::new(), cas: 1, right: Right::Stub }
    }

    #[test]
    fn rights_are_forgotten_after_a_while_and_never_more_than_fit() {
        let (grants, entropy) = (Grants::default(), Entropy::seeded(1));
        let draw = || Token::draw(&entropy);
        grants.add(draw(), grant(), TERM, at(0));
        grants.add(draw(), grant(), TERM, at(19));
        assert_eq!(grants.lock().by_token.len(), 2);
        grants.add(draw(), grant(), TERM, at(20));
        assert_eq!(grants.lock().by_token.len(), 2);
        for _ in 0..MOST + 10 {
            grants.add(draw(), grant(), TERM, at(20));
        }
        let known = grants.lock();
        assert!(known.by_token.len() == MOST && known.order.len() == MOST);
    }

    #[test]
    fn a_right_is_void_without_its_connection() {
        let (grants, token) = (Grants::default(), Token::from_bytes([7; 16]));
        grants.add(token, grant(), TERM, at(0));
        assert!(grants.find(token, &Name::new(b"", b"k")).is_none());
    }
}
