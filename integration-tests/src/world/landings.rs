//! What an action waits for the shared tier to take: of several shards, all that have to.

use std::time::Duration;

use cachalot_core::{Key, Token};
use cachalot_testkit::history::InvalidationId;

use super::routes::{Routes, Shards};

/// What one action is about.
#[derive(Debug, Default)]
pub(super) struct Landings {
    begun: Vec<Begun>,
    holds: Vec<Hold>,
}

/// An invalidation.
#[derive(Debug)]
struct Begun {
    id: InvalidationId,
    name: Key,
    taken_by: Shards,
}

/// A hold of one writer.
#[derive(Debug)]
struct Hold {
    name: Key,
    token: Token,
    since: Duration,
    taken_by: Shards,
}

impl Landings {
    pub(super) fn expect(&mut self, id: InvalidationId, name: Key) {
        self.begun.push(Begun { id, name, taken_by: 0 });
    }

    /// `shard` has taken what ends `names`. The invalidations that all have taken now that have to.
    pub(super) fn ended(&mut self, names: &[Key], shard: usize, routes: &Routes) -> Vec<InvalidationId> {
        let is_named = |begun: &&mut Begun| routes.are_one() || names.contains(&begun.name);
        let of_names = self.begun.iter_mut().filter(is_named).filter_map(|begun| {
            begun.taken_by |= 1 << shard;
            routes.reaches_all(&begun.name, begun.taken_by).then_some(begun.id)
        });
        of_names.collect()
    }

    /// `shard` holds `name` for `token`. Since when the first does, once all do that have to: it ends first.
    pub(super) fn held(
        &mut self,
        name: &Key,
        token: Token,
        shard: usize,
        routes: &Routes,
        now: Duration,
    ) -> Option<Duration> {
        if routes.are_one() {
            return Some(now);
        }
        let known = self.holds.iter().position(|hold| hold.name == *name && hold.token == token);
        let at = known.unwrap_or_else(|| {
            self.holds.push(Hold { name: name.clone(), token, since: now, taken_by: 0 });
            self.holds.len() - 1
        });
        let hold = &mut self.holds[at];
        hold.taken_by |= 1 << shard;
        routes.reaches_all(name, hold.taken_by).then_some(hold.since)
    }
}
