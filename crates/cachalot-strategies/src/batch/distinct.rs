//! Keys that were asked for several times.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// The keys of a call that are still open, each once.
pub(super) struct Distinct<'k, K> {
    pub(super) keys: Vec<&'k K>,
    /// For each key of the call, which of `keys` answers it.
    answered_by: Vec<Option<usize>>,
}

impl<'k, K: Hash + Eq> Distinct<'k, K> {
    /// Those of `keys` whose place `is_open`.
    pub(super) fn of(keys: &'k [K], is_open: impl Fn(usize) -> bool) -> Self {
        let mut distinct = Self { keys: Vec::new(), answered_by: vec![None; keys.len()] };
        let mut known = HashMap::new();
        for (place, key) in keys.iter().enumerate().filter(|(place, _)| is_open(*place)) {
            let at = match known.entry(key) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    distinct.keys.push(key);
                    *new.insert(distinct.keys.len() - 1)
                }
            };
            distinct.answered_by[place] = Some(at);
        }
        distinct
    }

    /// Each open place of the call with the one of `keys` that answers it.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<'_, 'k, K> {
        self.answered_by.iter().enumerate().filter_map(|(place, at)| at.map(|at| (place, at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_asked_twice_answers_both() {
        let keys = [7, 8, 7, 9, 8];
        let distinct = Distinct::of(&keys, |place| place != 3);
        assert_eq!(distinct.keys, [&7, &8]);
        assert_eq!(distinct.places().collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 0), (4, 1)]);
    }
}
