//! Giving back the space of what is done.
//!
//! Only the oldest segment ever goes. A note that a write is done must stay as long as the write itself does: were a
//! middle segment to go, with the note, while the write lies in an older one, the next replay would bring the old value
//! back over a newer one. Going from the front, each write goes before what was noted of it later.

use std::io;

use super::books::{Cargo, Extent};
use super::disk::path_of;
use super::format::{decode, push_cut, push_dead};
use super::writer::Writer;

/// After a failure so many groups pass before the next try.
const REST: u32 = 64;

impl Writer {
    /// Removes segments that nothing is owed of, the oldest first, and carries over what a few writes hold.
    pub(super) fn sweep(&mut self) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        // What is carried over may fill segments too, so there is an end to it.
        let segments = self.shared.lock().books.segments();
        for _ in 0..segments {
            let Some((oldest, worth)) = self.oldest() else { return };
            let swept = match worth {
                Worth::Nothing => self.remove(oldest),
                Worth::Moving(cargo) => self.carry(&cargo).and_then(|()| self.remove(oldest)),
                Worth::Keeping => return,
            };
            if swept.is_err() {
                self.rest = REST;
                return;
            }
        }
    }

    fn oldest(&self) -> Option<(u64, Worth)> {
        let mut state = self.shared.lock();
        // A write that a crash brings back, since the note that it is done is nowhere yet, still needs its cut.
        let is_noted = !state.gathering.has_controls();
        let books = &mut state.books;
        let (number, extent) = books.oldest()?;
        if number == self.active.number {
            return None;
        }
        let (segments, total, live) = (books.segments(), books.total(), books.live());
        if extent.live > 0 && !self.worth_moving(extent, segments, total, live) {
            return Some((number, Worth::Keeping));
        }
        let cargo = books.cargo(number, is_noted);
        let worth = if cargo.is_empty() { Worth::Nothing } else { Worth::Moving(cargo) };
        Some((number, worth))
    }

    /// The oldest of two segments empties by itself in good time; that of more is held by something. Then a quarter of
    /// a segment is cheap to write anew; and when the folder is half full, all is that makes room in the end.
    fn worth_moving(&self, oldest: Extent, segments: usize, total: u64, live: u64) -> bool {
        let few = oldest.live <= self.settings.segment_bytes / 4;
        let crowded = total >= self.settings.max_bytes / 2 && live <= total / 2;
        segments > 2 && (few || crowded)
    }

    /// One at a time, each durable before the next: of two names the disk may lose the second first. And not before what
    /// took the place of what is in it is durable, or else a loss of power takes both.
    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.sync()?;
        match self.disk.remove(&path_of(&self.folder, segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.disk.sync_folder(&self.folder)?,
        }
        self.shared.lock().books.forget(segment);
        Ok(())
    }

    /// Writes anew what is still needed, with its old sequences, and makes it durable.
    fn carry(&mut self, cargo: &Cargo) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut places = Vec::with_capacity(cargo.writes.len());
        for (sequence, place) in &cargo.writes {
            let len = usize::try_from(place.len).map_err(io::Error::other)?;
            let record = self.disk.read(&path_of(&self.folder, place.segment), place.offset, len)?;
            decode(&record).map_err(|flaw| io::Error::other(flaw.to_string()))?;
            places.push((*sequence, bytes.len() as u64, place.len));
            bytes.extend_from_slice(&record);
        }
        for (sequence, dead) in &cargo.dead {
            push_dead(&mut bytes, *sequence, dead.letter, dead.attempts, &dead.reason);
        }
        for through in &cargo.cuts {
            push_cut(&mut bytes, *through);
        }
        let base = self.write(&bytes, true)?;
        self.shared.moved(self.active.number, base, bytes.len() as u64, &places, &cargo.cuts);
        self.follow();
        Ok(())
    }
}

enum Worth {
    Nothing,
    Moving(Cargo),
    Keeping,
}
