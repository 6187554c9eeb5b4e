//! What the callers of a journal and its writer share: what has gathered, and how far it is settled.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cachalot_core::{Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};

use super::books::{Books, Dead, Place};
use super::format::{push_cut, push_dead, push_done, push_write, write_len};

pub(super) struct Shared {
    state: Mutex<State>,
    /// Told when there is something to do for the writer.
    pub(super) work: Condvar,
    progress: watch::Sender<Progress>,
    max_bytes: u64,
}

/// How far the writer is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Every write up to here is in the file, or void.
    settled: u64,
    /// The writer has ended; what is not settled never will be.
    ended: bool,
}

pub(super) struct State {
    pub(super) books: Books,
    /// The sequence of the next write.
    pub(super) next: u64,
    pub(super) gathering: Group,
    pub(super) closing: bool,
    /// Told once all is written and the folder is free.
    closers: Vec<oneshot::Sender<Result<()>>>,
    /// Writes that failed, until they are asked for.
    void: BTreeMap<u64, Error>,
}

/// What is written by one write.
#[derive(Default)]
pub(super) struct Group {
    pub(super) bytes: Vec<u8>,
    writes: Vec<(u64, Range<usize>)>,
    /// Records that must come some day, even if this group fails.
    controls: Vec<Range<usize>>,
    cuts: Vec<(u64, oneshot::Sender<Result<()>>)>,
    /// Every sequence below was given out before the group was taken.
    before: u64,
    /// It should be written now. Controls of a group that failed wait for others to go with.
    pub(super) pressing: bool,
}

impl Group {
    pub(super) fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    pub(super) fn has_cuts(&self) -> bool {
        !self.cuts.is_empty()
    }

    pub(super) fn has_controls(&self) -> bool {
        !self.controls.is_empty()
    }

    fn control(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        push(&mut self.bytes);
        self.controls.push(start..self.bytes.len());
        self.pressing = true;
    }

    /// Puts the controls of a group that failed in front: a done record that is lost, while a later one of the
    /// same key is not, would bring an old value back.
    fn take_back(&mut self, failed: &Group) {
        let mut front = Group::default();
        for control in &failed.controls {
            front.control(|bytes| bytes.extend_from_slice(&failed.bytes[control.clone()]));
        }
        let by = front.bytes.len();
        front.bytes.append(&mut self.bytes);
        self.bytes = front.bytes;
        let shifted = |range: &Range<usize>| range.start + by..range.end + by;
        front.controls.extend(self.controls.iter().map(shifted));
        self.controls = front.controls;
        for (_, range) in &mut self.writes {
            *range = shifted(range);
        }
    }
}

impl Shared {
    pub(super) fn new(books: Books, next: u64, max_bytes: u64) -> Self {
        let state = State {
            books,
            next,
            gathering: Group::default(),
            closing: false,
            closers: Vec::new(),
            void: BTreeMap::new(),
        };
        let progress = watch::Sender::new(Progress { settled: next - 1, ended: false });
        Self { state: Mutex::new(state), work: Condvar::new(), progress, max_bytes }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, key: &Bytes, value: Option<&Bytes>) -> u64 {
        let mut state = self.lock();
        let sequence = state.next;
        state.next += 1;
        match state.room(key, value, self.max_bytes) {
            Ok(()) => state.gather(sequence, key, value),
            Err(error) => {
                state.void.insert(sequence, error);
            }
        }
        drop(state);
        self.work.notify_one();
        sequence
    }

    pub(super) async fn durable(&self, sequence: u64) -> Result<()> {
        if let Some(error) = self.lock().void.remove(&sequence) {
            return Err(error);
        }
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|at| at.settled >= sequence || at.ended).await.map(|at| at.settled);
        if let Some(error) = self.lock().void.remove(&sequence) {
            return Err(error);
        }
        match reached {
            Ok(settled) if settled >= sequence => Ok(()),
            _ => Err(closed()),
        }
    }

    pub(super) async fn cut(&self, through: u64) -> Result<()> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.closing {
                return Err(closed());
            }
            // No control: who asked hears of the failure, and asks again.
            push_cut(&mut state.gathering.bytes, through);
            state.gathering.pressing = true;
            state.gathering.cuts.push((through, tell));
        }
        self.work.notify_one();
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(super) fn done(&self, sequences: &[u64]) {
        let mut state = self.lock();
        // One of a void write would say nothing.
        let known: Vec<u64> =
            sequences.iter().copied().filter(|sequence| state.books.end(*sequence)).collect();
        if known.is_empty() || state.closing {
            return;
        }
        state.gathering.control(|bytes| push_done(bytes, &known));
        drop(state);
        self.work.notify_one();
    }

    pub(super) fn dead(&self, sequences: &[u64], attempts: u32, reason: &str) {
        let Some(letter) = sequences.iter().max().copied() else { return };
        let mut state = self.lock();
        let reason = shortened(reason);
        let dead = Dead { letter, attempts, reason: reason.to_owned() };
        // All in one group: a crash parts them only in the midst of its write.
        for sequence in sequences {
            if state.books.bury(*sequence, dead.clone()) && !state.closing {
                state.gathering.control(|bytes| push_dead(bytes, *sequence, letter, attempts, reason));
            }
        }
        drop(state);
        self.work.notify_one();
    }

    pub(super) async fn close(&self) -> Result<()> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.lock();
            if self.progress.borrow().ended {
                return Ok(());
            }
            state.closing = true;
            state.closers.push(tell);
        }
        self.work.notify_one();
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Nothing is taken from now on.
    pub(super) fn leave(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// The group lies in the segment at `base`.
    pub(super) fn settle(&self, group: Group, segment: u64, base: u64) {
        let mut state = self.lock();
        state.books.grow(segment, group.bytes.len() as u64);
        for (sequence, range) in &group.writes {
            let (offset, len) = (base + range.start as u64, range.len() as u64);
            state.books.place(*sequence, Place { segment, offset, len });
        }
        for (through, tell) in group.cuts {
            state.books.cut(through, segment);
            let _ = tell.send(Ok(()));
        }
        drop(state);
        self.progress.send_modify(|at| at.settled = group.before - 1);
    }

    /// Copies lie in the segment behind `base`, each at its offset with its length.
    pub(super) fn moved(
        &self,
        segment: u64,
        base: u64,
        bytes: u64,
        writes: &[(u64, u64, u64)],
        cuts: &[u64],
    ) {
        let books = &mut self.lock().books;
        books.grow(segment, bytes);
        for (sequence, offset, len) in writes {
            books.place(*sequence, Place { segment, offset: base + offset, len: *len });
        }
        for through in cuts {
            books.cut(*through, segment);
        }
    }

    /// The group is nowhere: its writes are void.
    pub(super) fn fail(&self, mut group: Group, error: &Error) {
        let mut state = self.lock();
        for (sequence, _) in &group.writes {
            state.books.end(*sequence);
            state.void.insert(*sequence, error.clone());
        }
        state.gathering.take_back(&group);
        drop(state);
        for (_, tell) in group.cuts.drain(..) {
            let _ = tell.send(Err(error.clone()));
        }
        self.progress.send_modify(|at| at.settled = group.before - 1);
    }

    /// The writer has gone. Whoever still waits is told.
    pub(super) fn end(&self, result: &Result<()>) {
        let mut state = self.lock();
        state.closing = true;
        // Dropped, so that no cut waits for ever.
        state.gathering = Group::default();
        let closers = std::mem::take(&mut state.closers);
        self.progress.send_modify(|at| at.ended = true);
        drop(state);
        for closer in closers {
            let _ = closer.send(result.clone());
        }
    }
}

impl State {
    fn room(&self, key: &Bytes, value: Option<&Bytes>, max_bytes: u64) -> Result<()> {
        if self.closing {
            return Err(closed());
        }
        let Some(len) = write_len(key.len(), value.map(Bytes::len)) else {
            return Err(Error::new(ErrorKind::Config, "journal append").detail("a write of more than 4 GiB"));
        };
        if self.books.total() + (self.gathering.bytes.len() + len) as u64 > max_bytes {
            return Err(Error::new(ErrorKind::Unavailable, "journal append")
                .detail(format!("journal full: {max_bytes} bytes are taken")));
        }
        Ok(())
    }

    fn gather(&mut self, sequence: u64, key: &Bytes, value: Option<&Bytes>) {
        let group = &mut self.gathering;
        let start = group.bytes.len();
        push_write(&mut group.bytes, sequence, key, value.map(AsRef::as_ref));
        group.writes.push((sequence, start..group.bytes.len()));
        group.pressing = true;
        self.books.begin(sequence);
    }

    pub(super) fn take(&mut self) -> Group {
        let mut group = std::mem::take(&mut self.gathering);
        group.before = self.next;
        group
    }
}

/// The longest reason that is kept, in bytes.
const REASON_BYTES: usize = 4096;

fn shortened(reason: &str) -> &str {
    let end = (0..=reason.len().min(REASON_BYTES)).rev().find(|at| reason.is_char_boundary(*at));
    &reason[..end.unwrap_or(0)]
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "journal append").detail("the journal was closed")
}
