//! Resident bytes an entry, a million entries asked for and a million written.

use std::io::Result;

use super::child::{ask, resident};
use super::{Data, Key, Kind, Subject, Visitor, for_each};

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `u64` → `u64`.
    Numbers,
    /// `String` of 32 bytes → `[u8; 64]`: 120 bytes of payload.
    Strings,
}

/// One contender's figures.
#[derive(Debug)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Resident bytes an entry held.
    pub(crate) bytes: f64,
    /// Entries held of those asked for.
    pub(crate) held: f64,
}

const ENTRIES: u64 = 1_000_000;

/// One key in so many is looked for in the end.
const SAMPLED: usize = 10;

impl Shape {
    pub(crate) const ALL: [Self; 2] = [Self::Numbers, Self::Strings];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Numbers => "u64 → u64",
            Self::Strings => "String(32) → [u8; 64]",
        }
    }

    fn task(self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::Strings => "strings",
        }
    }
}

/// Measures everybody, each in a process of its own.
pub(crate) fn measure(shape: Shape) -> Result<Vec<Size>> {
    let mut ask = Ask { shape, all: Ok(Vec::new()) };
    for_each::<u64, u64>(&mut ask);
    ask.all
}

struct Ask {
    shape: Shape,
    all: Result<Vec<Size>>,
}

impl Visitor<u64, u64> for Ask {
    fn visit<S: Subject<u64, u64>>(&mut self) {
        let Ok(all) = &mut self.all else { return };
        match ask(&["size", self.shape.task(), S::NAME]) {
            Ok(numbers) if numbers.len() == 2 => all.push(Size {
                name: S::NAME,
                kind: S::KIND,
                bytes: numbers[0] / numbers[1],
                held: numbers[1] / ENTRIES as f64,
            }),
            // A system that does not tell what is resident.
            Ok(_) => {}
            Err(error) => self.all = Err(error),
        }
    }
}

/// In the process of its own: the bytes and the entries, or nothing where no system tells.
pub(crate) fn child(shape: &str, name: &str) -> Vec<f64> {
    if shape == Shape::Numbers.task() {
        let mut fill = Fill { name, key: |at| at, value: |at| at, found: Vec::new() };
        for_each::<u64, u64>(&mut fill);
        fill.found
    } else {
        let key = |at: u64| format!("{at:032}");
        let mut fill = Fill { name, key, value: |at: u64| [at as u8; 64], found: Vec::new() };
        for_each::<String, [u8; 64]>(&mut fill);
        fill.found
    }
}

struct Fill<'a, A, B> {
    name: &'a str,
    key: A,
    value: B,
    found: Vec<f64>,
}

impl<K: Key, V: Data, A: Fn(u64) -> K, B: Fn(u64) -> V> Visitor<K, V> for Fill<'_, A, B> {
    fn visit<S: Subject<K, V>>(&mut self) {
        if S::NAME != self.name {
            return;
        }
        let Some(before) = resident() else { return };
        let subject = S::holding(ENTRIES as usize);
        for at in 0..ENTRIES {
            subject.write((self.key)(at), (self.value)(at));
        }
        let after = resident().unwrap_or(before);
        // Not all tell how many they hold, so a sample is asked for.
        let held = (0..ENTRIES).step_by(SAMPLED).filter(|&at| subject.read(&(self.key)(at))).count();
        self.found = vec![after.saturating_sub(before) as f64, (held * SAMPLED) as f64];
    }
}
