//! What has happened, and what everybody is promised.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::KEYS;

/// For each key the place of a write that has returned: nothing older may be read.
#[derive(Debug, Default)]
pub(super) struct Floors([AtomicU64; KEYS as usize]);

impl Floors {
    pub(super) fn of(&self, key: u64) -> u64 {
        self.0[key as usize].load(Ordering::SeqCst)
    }

    pub(super) fn raise(&self, key: u64, version: u64) {
        self.0[key as usize].fetch_max(version, Ordering::SeqCst);
    }

    pub(super) fn raise_all(&self, others: &Self) {
        (0..KEYS).for_each(|key| self.raise(key, others.of(key)));
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of who has nothing in memory.
    pub(super) floors: Floors,
    is_storming: AtomicBool,
    is_over: AtomicBool,
    last_value: AtomicU64,
    pub(super) reads: Count,
    pub(super) fresh_reads: Count,
    pub(super) from_memory: Count,
    pub(super) failed_reads: Count,
    pub(super) stored: Count,
    pub(super) dropped: Count,
    pub(super) deferred: Count,
    pub(super) refused: Count,
    pub(super) unknown: Count,
    crashes: Count,
    crashes_between: Count,
    complaints: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn up(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Tally {
    pub(super) fn storms(&self, is_storming: bool) {
        self.is_storming.store(is_storming, Ordering::SeqCst);
    }

    pub(super) fn is_storming(&self) -> bool {
        self.is_storming.load(Ordering::SeqCst)
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// One that nobody has written before.
    pub(super) fn new_value(&self) -> String {
        self.last_value.fetch_add(1, Ordering::SeqCst).to_string()
    }

    pub(super) fn crashed(&self, is_between: bool) {
        self.crashes.up();
        if is_between {
            self.crashes_between.up();
        }
    }

    pub(super) fn complain(&self, complaint: String) {
        self.complaints.lock().unwrap().push(complaint);
    }

    /// Nobody complains, and everything has happened that was to happen.
    pub(super) fn assert_lively(&self) {
        let complaints = self.complaints.lock().unwrap();
        assert!(complaints.is_empty(), "{} complaints, the first: {}", complaints.len(), complaints[0]);
        println!("{self:?}");
        assert_eq!(self.missing(), None, "{self:?}");
    }

    /// What has not happened as often as it was to happen.
    pub(super) fn missing(&self) -> Option<String> {
        let all = [
            (&self.reads, 500, "reads"),
            (&self.fresh_reads, 50, "reads without memory"),
            (&self.from_memory, 50, "reads from memory"),
            (&self.failed_reads, 1, "failed reads"),
            (&self.stored, 20, "writes that were stored"),
            (&self.dropped, 5, "writes that met others"),
            (&self.deferred, 1, "writes without the shared tier"),
            (&self.refused, 1, "writes that the source refused"),
            (&self.unknown, 1, "writes without an answer"),
            (&self.crashes, 5, "crashes"),
            (&self.crashes_between, 1, "crashes between the source and the cache"),
        ];
        let missing = all.iter().find(|(count, least, _)| count.get() < *least);
        missing.map(|(count, _, what)| format!("only {} {what}", count.get()))
    }
}
