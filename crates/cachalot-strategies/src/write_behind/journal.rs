//! Where writes wait for their source: in memory alone, or in files that survive the process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::{Entropy, Result};

mod file;
pub use file::{FileJournal, Fsync};
mod books;
mod disk;
mod format;
mod garbage;
mod replay;
mod state;
#[cfg(test)]
mod tests;
mod writer;

/// One write in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    /// Its place among the writes of its writer; the first is 1.
    pub(crate) sequence: u64,
    pub(crate) key: Bytes,
    /// `None`: a deletion.
    pub(crate) value: Option<Bytes>,
}

/// A write that the source refuses for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoggedDead {
    pub(crate) write: Logged,
    /// The last of the writes that it had become one with: together they are one letter. Itself mostly.
    pub(crate) letter: u64,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
}

/// What a journal still owes when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Who writes: kept for the life of a folder, another one at each start without one.
    pub(crate) writer: u128,
    /// The sequence that the next write gets.
    pub(crate) next_sequence: u64,
    /// By sequence, each once; neither done nor dead.
    pub(crate) writes: Vec<Logged>,
    /// By sequence.
    pub(crate) dead: Vec<LoggedDead>,
    /// The cuts that still part writes, in their order.
    pub(crate) cuts: Vec<u64>,
    /// So many bytes at the end were not whole, or came behind what was not, and are passed over.
    pub(crate) torn_bytes: u64,
}

impl Recovered {
    /// Of a writer that begins.
    fn nothing(writer: u128) -> Self {
        Self {
            writer,
            next_sequence: 1,
            writes: Vec::new(),
            dead: Vec::new(),
            cuts: Vec::new(),
            torn_bytes: 0,
        }
    }
}

/// What keeps writes until the source has them. No method does I/O in the caller.
#[async_trait]
pub(crate) trait Journal: Send + Sync + fmt::Debug {
    /// Allots the next sequence. The order of calls is the order in the file.
    fn append(&self, key: Bytes, value: Option<Bytes>) -> u64;

    /// Waits until the write is as durable as promised; the source must not have it before, or else a sequence that a
    /// crash takes back could be one that the source knows. After an error the write is void: it is not replayed. To be
    /// asked once a write. May be dropped at any time; the write goes on.
    async fn durable(&self, sequence: u64) -> Result<()>;

    /// Durable: on replay, writes at or below `through` are never merged with those above.
    async fn cut(&self, through: u64) -> Result<()>;

    /// The source has them, or a dead one is forgotten. May be lost in a crash; then they are replayed.
    fn done(&self, sequences: &[u64]);

    /// The source refuses these for good, which had become one. They are kept until they are done, and known as one.
    fn dead(&self, sequences: &[u64], attempts: u32, reason: &str);

    /// Ends the journal: waits until all that was appended is durable and, with files, the folder is free for
    /// another. What is appended later fails; what is done later is replayed.
    async fn close(&self) -> Result<()>;
}

/// Keeps nothing: a crash loses what the source has not yet.
#[derive(Debug)]
pub(crate) struct BestEffort {
    next: AtomicU64,
}

impl BestEffort {
    /// Nothing is recovered, and the writer is a new one.
    pub(crate) fn open(entropy: &Entropy) -> (Arc<dyn Journal>, Recovered) {
        let recovered = Recovered::nothing(u128::from_le_bytes(entropy.draw_128()));
        (Arc::new(Self { next: AtomicU64::new(1) }), recovered)
    }
}

#[async_trait]
impl Journal for BestEffort {
    fn append(&self, _key: Bytes, _value: Option<Bytes>) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn durable(&self, _sequence: u64) -> Result<()> {
        Ok(())
    }

    async fn cut(&self, _through: u64) -> Result<()> {
        Ok(())
    }

    fn done(&self, _sequences: &[u64]) {}

    fn dead(&self, _sequences: &[u64], _attempts: u32, _reason: &str) {}

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
