//! Belady's optimum: knows the future.

use std::collections::BTreeSet;

use super::hash::KeyMap;

/// The most hits that any cache of `capacity` keys can have on `keys`: evicts whoever is read furthest in the
/// future, and takes in only what is read before one of those held (Belady, 1966; with bypass).
/// Takes n · log(capacity).
pub fn belady(keys: &[u64], capacity: usize) -> u64 {
    let next = next_reads(keys);
    let mut held = BTreeSet::new();
    let mut hits = 0;
    for (now, &next) in next.iter().enumerate() {
        hits += u64::from(held.remove(&now));
        if next == NEVER {
            continue;
        }
        held.insert(next);
        if held.len() > capacity {
            held.pop_last();
        }
    }
    hits
}

const NEVER: usize = usize::MAX;

/// For each read, when its key is read again.
fn next_reads(keys: &[u64]) -> Vec<usize> {
    let mut seen: KeyMap<usize> = KeyMap::default();
    let mut next = vec![NEVER; keys.len()];
    for (at, key) in keys.iter().enumerate().rev() {
        if let Some(later) = seen.insert(*key, at) {
            next[at] = later;
        }
    }
    next
}
