//! Subjects that wait to be sent: in order, each once, bounded.

use std::collections::{HashMap, VecDeque};

use cachalot_core::Subject;

/// What one message takes at most: far below the bounds of a message, so that none is refused for its size
/// but one with a single enormous name.
const SUBJECTS_PER_BATCH: usize = 512;
const BYTES_PER_BATCH: usize = 64 * 1024;

/// Batches in the order in which they will be sent.
#[derive(Debug)]
pub(super) struct Waiting {
    max_subjects: usize,
    max_bytes: usize,
    batches: VecDeque<Batch>,
    /// Where a subject waits: the batch, counted from the first one ever, and the place in it. Subjects that
    /// differ only in being pending are one.
    places: HashMap<Subject, (u64, usize)>,
    /// How many batches were taken or dropped.
    gone: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Batch {
    subjects: Vec<Subject>,
    bytes: usize,
    confirm: bool,
}

impl Waiting {
    pub(super) fn new(max_subjects: usize, max_bytes: usize) -> Self {
        let (batches, places) = (VecDeque::new(), HashMap::new());
        Self { max_subjects, max_bytes, batches, places, gone: 0, bytes: 0 }
    }

    /// Adds `subject`, or renews the one that waits. Gives the place of its batch among those that wait, from
    /// 1. `None` if there is no room: nothing was added.
    pub(super) fn add(&mut self, subject: Subject, confirm: bool) -> Option<u64> {
        let name = settled(&subject);
        if let Some((number, at)) = self.places.get(&name).copied() {
            let place = number - self.gone;
            let batch = self.batches.get_mut(usize::try_from(place).ok()?)?;
            batch.subjects[at] = subject;
            batch.confirm |= confirm;
            return Some(place + 1);
        }
        let bytes = subject.name().len();
        if self.places.len() >= self.max_subjects || self.bytes + bytes > self.max_bytes {
            return None;
        }
        let number = self.open_batch(bytes);
        let batch = self.batches.back_mut()?;
        self.places.insert(name, (number, batch.subjects.len()));
        batch.subjects.push(subject);
        batch.bytes += bytes;
        batch.confirm |= confirm;
        self.bytes += bytes;
        Some(number - self.gone + 1)
    }

    /// The oldest batch, and whether it is to be acknowledged.
    pub(super) fn take(&mut self) -> Option<(Vec<Subject>, bool)> {
        let batch = self.batches.pop_front()?;
        self.gone += 1;
        self.bytes -= batch.bytes;
        for subject in &batch.subjects {
            self.places.remove(&settled(subject));
        }
        Some((batch.subjects, batch.confirm))
    }

    /// Drops all. How many batches that were, and whether one of them was to be acknowledged.
    pub(super) fn clear(&mut self) -> (u64, bool) {
        let dropped = self.batches.len() as u64;
        let confirm = self.batches.drain(..).any(|batch| batch.confirm);
        self.places.clear();
        self.gone += dropped;
        self.bytes = 0;
        (dropped, confirm)
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches.len() as u64
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The number of the batch that has room for so many bytes more, the last one.
    fn open_batch(&mut self, bytes: usize) -> u64 {
        let full = self.batches.back().is_none_or(|batch| {
            batch.subjects.len() >= SUBJECTS_PER_BATCH
                || (!batch.subjects.is_empty() && batch.bytes + bytes > BYTES_PER_BATCH)
        });
        if full {
            self.batches.push_back(Batch::default());
        }
        self.gone + self.batches.len() as u64 - 1
    }
}

/// The subject as it is once the shared tier has taken it.
fn settled(subject: &Subject) -> Subject {
    let mut subject = subject.clone();
    match &mut subject {
        Subject::Key { pending, .. }
        | Subject::Tag { pending, .. }
        | Subject::Pattern { pending, .. }
        | Subject::Clear { pending } => *pending = false,
        _ => {}
    }
    subject
}
