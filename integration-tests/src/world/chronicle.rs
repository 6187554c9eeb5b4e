//! The history of a world, with the time at which things happen.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cachalot_core::{Clock, Key, Namespace, Subject, Tag};
use cachalot_testkit::history::{History, InvalidationId, ProcessId};

use super::{KEYS, NAME, TAG, log::Log};

/// Clones are the same chronicle.
#[derive(Clone, Debug)]
pub(super) struct Chronicle {
    pub(super) history: Arc<Mutex<History<usize>>>,
    pub(super) clock: Clock,
    pub(super) log: Log,
}

impl Chronicle {
    pub(super) fn history(&self) -> MutexGuard<'_, History<usize>> {
        self.history.lock().unwrap()
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_millis(self.clock.now().as_millis())
    }

    /// The shared tier has taken what `ids` are about.
    pub(super) fn landed(&self, ids: &[InvalidationId]) {
        ids.iter().for_each(|id| self.history().land_invalidation(*id, self.now()));
    }

    /// `process` has done what `subject` asks for.
    pub(super) fn applied(&self, process: ProcessId, subject: &Subject) {
        self.log.note(format_args!("process {process} has heard {subject:?}"));
        for key in (0..KEYS).filter(|key| is_about(subject, *key)) {
            let is_tag = matches!(subject, Subject::Tag { .. });
            self.history().tell(process, Some(&key), is_tag, self.now());
        }
    }

    /// `process` has noticed that it missed something.
    pub(super) fn gap(&self, process: ProcessId) {
        self.log.note(format_args!("process {process} notices a gap"));
        self.history().tell(process, None, false, self.now());
    }
}

fn is_about(subject: &Subject, key: usize) -> bool {
    match subject {
        Subject::Key { key: name, .. } => *name == name_of(key),
        _ => true,
    }
}

/// What a key is called in the shared tier.
pub(super) fn name_of(key: usize) -> Key {
    Namespace::new(NAME).unwrap().key(&(key as u64))
}

/// What the token of the tag is called there.
pub(super) fn name_of_tag() -> Key {
    Namespace::new(NAME).unwrap().tag(&Tag::new(TAG).unwrap())
}
