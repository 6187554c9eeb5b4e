//! Dead letters in a journal: told to it write by write, and brought back each as the one letter that it was.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cachalot_core::{Source, Store};

use super::bounds::{Key, Value};
use super::inner::Inner;
use super::journal::LoggedDead;
use super::queue::{Buried, Dead};
use super::rules::Merge;

/// Among the attempts of a dead letter: a newer write of its key came, which the journal may not know any more.
const SUPERSEDED: u32 = 1 << 31;

/// A part of a letter: what the journal says of it, and what it wrote.
type Part<'a, K, V> = (&'a LoggedDead, K, Option<V>);

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Inner<K, V, S, D> {
    /// Tells the journal of a dead letter.
    pub(super) fn note_dead(&self, dead: &Buried) {
        let mark = if dead.is_superseded { SUPERSEDED } else { 0 };
        let attempts = (dead.attempts & !SUPERSEDED) | mark;
        self.journal.dead(&dead.sequences, attempts, &dead.reason);
    }

    /// The letters of `logged`, whose writes these are, by their ids.
    pub(super) fn letters(
        &self,
        logged: &[LoggedDead],
        writes: Vec<(K, Option<V>)>,
    ) -> Vec<(u64, Dead<K, V>)> {
        let mut letters: BTreeMap<u64, Vec<Part<'_, K, V>>> = BTreeMap::new();
        for (logged, (key, value)) in logged.iter().zip(writes) {
            letters.entry(logged.letter).or_default().push((logged, key, value));
        }
        letters.into_values().flat_map(|parts| self.as_one(parts)).collect()
    }

    /// One letter of its parts, oldest first, as if they had just become one. Its id is that of the last part; the last
    /// of all may not be among them, if a crash came between.
    fn as_one(&self, parts: Vec<Part<'_, K, V>>) -> Vec<(u64, Dead<K, V>)> {
        let merge = self.rules.merge.as_ref().filter(|_| parts.len() > 1);
        let Some(value) = merge.and_then(|merge| merged(merge, &parts)) else { return self.apart(parts) };
        let sequences = parts.iter().map(|(logged, ..)| logged.write.sequence).collect();
        let Some((logged, key, _)) = parts.into_iter().next_back() else { return Vec::new() };
        vec![(logged.write.sequence, Dead { sequences, ..self.letter(logged, key, value) })]
    }

    /// Each by itself: nobody says any more how they became one.
    fn apart(&self, parts: Vec<Part<'_, K, V>>) -> Vec<(u64, Dead<K, V>)> {
        let alone =
            |(logged, key, value): Part<'_, K, V>| (logged.write.sequence, self.letter(logged, key, value));
        parts.into_iter().map(alone).collect()
    }

    fn letter(&self, logged: &LoggedDead, key: K, value: Option<V>) -> Dead<K, V> {
        let weight = self.rules.weigh(&key, value.as_ref()).unwrap_or(0);
        Dead {
            key,
            entry: self.entry(value),
            attempts: logged.attempts & !SUPERSEDED,
            reason: logged.reason.clone(),
            is_superseded: logged.attempts & SUPERSEDED != 0,
            sequences: vec![logged.write.sequence],
            weight,
        }
    }
}

/// What the parts come to: the deltas since the last deletion, if there was one, or that deletion. `None`: the merge
/// panics.
fn merged<K, V>(merge: &Merge<V>, parts: &[Part<'_, K, V>]) -> Option<Option<V>> {
    let (_, _, last) = parts.last()?;
    if last.is_none() {
        return Some(None);
    }
    let mut deltas = parts.iter().rev().map_while(|(_, _, value)| value.as_ref()).collect::<Vec<_>>();
    deltas.reverse();
    let (first, rest) = deltas.split_first()?;
    let (second, rest) = rest.split_first()?;
    let fold = || rest.iter().fold(merge(first, second), |older, newer| merge(&older, newer));
    catch_unwind(AssertUnwindSafe(fold)).ok().map(Some)
}
