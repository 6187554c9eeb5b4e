//! A disk that fails when told, and knows what a loss of power would leave of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::super::disk::{Disk, Real, Segment};

/// What a journal asks a disk for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Create,
    Write,
    Sync,
    Truncate,
    Rename,
    Remove,
    SyncFolder,
    Read,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: io::ErrorKind,
    /// Of a write: how much of it happens all the same.
    pub(super) short: usize,
}

pub(super) const BROKEN: Fault = Fault { kind: io::ErrorKind::Other, short: 0 };
pub(super) const FULL: Fault = Fault { kind: io::ErrorKind::StorageFull, short: 7 };

/// Shared by the disk, its files and the test. Files are real, but nothing waits for real hardware.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    plan: Mutex<Plan>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    counts: BTreeMap<Op, usize>,
    ops: Vec<Op>,
    /// The n-th of its kind from now on, counted from 1.
    faults: Vec<(Op, usize, Fault)>,
    /// By the number of the operation, whatever it is.
    any: Vec<(usize, Fault)>,
    /// Every operation of this kind.
    always: Vec<(Op, Fault)>,
    held: bool,
    waiting: bool,
    files: Vec<Shadow>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
}

#[derive(Clone, Debug, Default)]
struct Shadow {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// What it was before it was cut, as long as that is not durable either.
    before_cut: Vec<u8>,
    /// An fsync failed: the pages are gone, though later ones succeed.
    lost: bool,
}

impl Faulty {
    /// Knows the files that are there as durable.
    pub(super) fn over(folder: &Path) -> Self {
        Self::found(folder, true)
    }

    /// Knows the names that are there as durable, but nothing of what is in the files.
    pub(super) fn over_unsynced(folder: &Path) -> Self {
        Self::found(folder, false)
    }

    fn found(folder: &Path, is_durable: bool) -> Self {
        let faulty = Self::default();
        if let Ok(entries) = std::fs::read_dir(folder) {
            let mut plan = faulty.plan();
            for entry in entries {
                let path = entry.unwrap().path();
                let content = std::fs::read(&path).unwrap();
                let id = plan.files.len();
                plan.files.push(Shadow {
                    durable: if is_durable { content.clone() } else { Vec::new() },
                    content,
                    ..Shadow::default()
                });
                plan.names.insert(path.clone(), id);
                plan.durable_names.insert(path, id);
            }
        }
        faulty
    }

    pub(super) fn disk(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.inner.plan.lock().unwrap()
    }

    pub(super) fn count(&self, op: Op) -> usize {
        self.plan().counts.get(&op).copied().unwrap_or(0)
    }

    /// All that was asked so far.
    pub(super) fn ops(&self) -> Vec<Op> {
        self.plan().ops.clone()
    }

    /// Lets the `nth` operation of that kind from now on fail.
    pub(super) fn fail(&self, op: Op, nth: usize, fault: Fault) {
        let mut plan = self.plan();
        let nth = plan.counts.get(&op).copied().unwrap_or(0) + nth;
        plan.faults.push((op, nth, fault));
    }

    /// Lets the `nth` operation from now on fail.
    pub(super) fn fail_any(&self, nth: usize, fault: Fault) {
        let mut plan = self.plan();
        let nth = plan.ops.len() + nth;
        plan.any.push((nth, fault));
    }

    pub(super) fn fail_always(&self, op: Op, fault: Fault) {
        self.plan().always.push((op, fault));
    }

    pub(super) fn heal(&self) {
        let mut plan = self.plan();
        plan.always.clear();
        plan.faults.clear();
        plan.any.clear();
    }

    /// Holds every fsync of a file until released.
    pub(super) fn hold(&self) {
        self.plan().held = true;
    }

    pub(super) fn release(&self) {
        self.plan().held = false;
        self.inner.moved.notify_all();
    }

    /// Waits until an fsync is held.
    pub(super) fn wait_for_held(&self) {
        let plan = self.plan();
        drop(self.inner.moved.wait_while(plan, |plan| !plan.waiting).unwrap());
    }

    /// What a loss of power leaves: durable names, with what is durable of their files and so many bytes that the
    /// disk happened to have written besides; or, if `names`, the names as they were.
    pub(super) fn lose_power(&self, into: &Path, names: bool, besides: usize) {
        let plan = self.plan();
        for (path, id) in if names { &plan.names } else { &plan.durable_names } {
            let shadow = &plan.files[*id];
            let written = if shadow.before_cut.is_empty() { &shadow.content } else { &shadow.before_cut };
            let rest = written.strip_prefix(&shadow.durable[..]).unwrap_or_default();
            let image = [&shadow.durable[..], &rest[..besides.min(rest.len())]].concat();
            std::fs::write(into.join(path.file_name().unwrap()), image).unwrap();
        }
    }

    /// Counts the operation; whether it fails.
    fn asked(&self, op: Op) -> Option<Fault> {
        let mut plan = self.plan();
        plan.ops.push(op);
        let at = plan.ops.len();
        let count = plan.counts.entry(op).or_default();
        *count += 1;
        let nth = *count;
        let one = plan.faults.iter().find(|fault| fault.0 == op && fault.1 == nth).map(|fault| fault.2);
        let any = plan.any.iter().find(|fault| fault.0 == at).map(|fault| fault.1);
        let always = plan.always.iter().find(|fault| fault.0 == op).map(|fault| fault.1);
        one.or(any).or(always)
    }

    fn checked(&self, op: Op) -> io::Result<()> {
        self.asked(op).map_or(Ok(()), |fault| Err(fault.kind.into()))
    }
}

impl Disk for Faulty {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn Segment>> {
        self.checked(Op::Create)?;
        let file = Real.create(path)?;
        let mut plan = self.plan();
        let id = plan.files.len();
        plan.files.push(Shadow::default());
        plan.names.insert(path.to_owned(), id);
        Ok(Box::new(FaultyFile { disk: self.clone(), id, file }))
    }

    fn reopen(&mut self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let id = self.plan().names[path];
        Ok(Box::new(FaultyFile { disk: self.clone(), id, file: Real.reopen(path)? }))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.checked(Op::Rename)?;
        Real.rename(from, to)?;
        let mut plan = self.plan();
        let id = plan.names.remove(from).unwrap();
        plan.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.checked(Op::Remove)?;
        Real.remove(path)?;
        self.plan().names.remove(path);
        Ok(())
    }

    fn sync_folder(&mut self, _folder: &Path) -> io::Result<()> {
        self.checked(Op::SyncFolder)?;
        let mut plan = self.plan();
        plan.durable_names = plan.names.clone();
        Ok(())
    }

    fn read(&mut self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.checked(Op::Read)?;
        Real.read(path, offset, len)
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Faulty,
    id: usize,
    file: Box<dyn Segment>,
}

impl Segment for FaultyFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fault = self.disk.asked(Op::Write);
        let written = fault.map_or(bytes, |fault| &bytes[..fault.short.min(bytes.len())]);
        self.file.write_all(written)?;
        self.disk.plan().files[self.id].content.extend_from_slice(written);
        fault.map_or(Ok(()), |fault| Err(fault.kind.into()))
    }

    fn sync(&mut self) -> io::Result<()> {
        let fault = self.disk.asked(Op::Sync);
        let mut plan = self.disk.plan();
        if plan.held {
            plan.waiting = true;
            self.disk.inner.moved.notify_all();
            plan = self.disk.inner.moved.wait_while(plan, |plan| plan.held).unwrap();
            plan.waiting = false;
        }
        let shadow = &mut plan.files[self.id];
        if let Some(fault) = fault {
            shadow.lost = true;
            return Err(fault.kind.into());
        }
        if !shadow.lost {
            shadow.durable = shadow.content.clone();
            shadow.before_cut.clear();
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.checked(Op::Truncate)?;
        self.file.truncate(len)?;
        let shadow = &mut self.disk.plan().files[self.id];
        shadow.before_cut = shadow.content.clone();
        shadow.content.truncate(len as usize);
        Ok(())
    }
}
