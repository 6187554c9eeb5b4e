//! The bound while two threads write as fast as they can.

use std::io::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::child::{ask, resident, resident_max};
use super::{Kind, Subject, Visitor, for_each};

/// One contender's peaks, over what was asked for.
#[derive(Debug)]
pub(crate) struct Peak {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Values alive at once: held, on their way in, or not yet freed.
    pub(crate) live: f64,
    /// Memory resident at once: all of that, the table, and what the allocator keeps for each thread. Told, not
    /// judged: it is the allocator's doing for the most part.
    pub(crate) resident: Option<f64>,
}

/// What the caches are allowed to hold: 40,000 values.
const ASKED: u64 = 40_000 * VALUE as u64;

const VALUE: usize = 4096;

const THREADS: u64 = 2;

/// Of each thread: the bound is filled and then written over four times.
const WRITES: u64 = 5 * ASKED / VALUE as u64 / THREADS;

/// Measures everybody, each in a process of its own.
pub(crate) fn measure() -> Result<Vec<Peak>> {
    let mut ask = Ask(Ok(Vec::new()));
    for_each::<u64, Page>(&mut ask);
    ask.0
}

struct Ask(Result<Vec<Peak>>);

impl Visitor<u64, Page> for Ask {
    fn visit<S: Subject<u64, Page>>(&mut self) {
        let Ok(all) = &mut self.0 else { return };
        if S::KIND == Kind::Floor {
            return;
        }
        match ask(&["storm", S::NAME]) {
            Ok(peaks) => all.push(Peak {
                name: S::NAME,
                kind: S::KIND,
                live: peaks.first().map_or(f64::NAN, |bytes| bytes / ASKED as f64),
                resident: peaks.get(1).map(|bytes| bytes / ASKED as f64),
            }),
            Err(error) => self.0 = Err(error),
        }
    }
}

/// In the process of its own: the peaks in bytes, the resident one if a system tells.
pub(crate) fn child(name: &str) -> Vec<f64> {
    let mut storm = Storm { name, peaks: Vec::new() };
    for_each::<u64, Page>(&mut storm);
    storm.peaks
}

struct Storm<'a> {
    name: &'a str,
    peaks: Vec<f64>,
}

impl Visitor<u64, Page> for Storm<'_> {
    fn visit<S: Subject<u64, Page>>(&mut self) {
        if S::NAME != self.name {
            return;
        }
        let before = resident();
        let subject = S::weighing(ASKED, VALUE as u32);
        let write = |thread: u64| {
            (0..WRITES).for_each(|at| subject.write(at * THREADS + thread, Page::new()));
        };
        let write = &write;
        thread::scope(|scope| {
            (0..THREADS).for_each(|thread| drop(scope.spawn(move || write(thread))));
        });
        self.peaks.push(PEAK.load(Ordering::Relaxed) as f64);
        self.peaks.extend(before.zip(resident_max()).map(|(before, max)| max.saturating_sub(before) as f64));
    }
}

/// Bytes of all pages alive.
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// A value that counts how many like it are alive.
#[derive(Clone, Debug)]
pub(crate) struct Page(#[expect(dead_code, reason = "held for its size and its end")] Arc<Counted>);

#[derive(Debug)]
struct Counted(#[expect(dead_code, reason = "held for its size")] [u8; VALUE]);

impl Page {
    fn new() -> Self {
        let live = LIVE.fetch_add(VALUE as u64, Ordering::Relaxed) + VALUE as u64;
        PEAK.fetch_max(live, Ordering::Relaxed);
        Self(Arc::new(Counted([7; VALUE])))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.fetch_sub(VALUE as u64, Ordering::Relaxed);
    }
}
