//! The source of a run: where its actors may be stopped, and who came last.

use std::fmt::Debug;

use async_trait::async_trait;
use cachalot::Source;
use cachalot_testkit::{CountingSource, SourceError};

use super::run::{NEW, OLD, other};
use crate::{Cell, Script, Steps};

/// Two rows, with a boundary before and after each call. Where rows have versions an older one replaces no newer one.
#[derive(Debug)]
pub(super) struct Rows {
    script: Script,
    cell: Cell,
    key: u64,
    rows: CountingSource<u64, String>,
}

impl Rows {
    /// Rows with the old value.
    pub(super) fn new(script: Script, cell: Cell, key: u64) -> Self {
        let rows = CountingSource::with([key, other(key)].map(|key| (key, OLD.to_owned())));
        Self { script, cell, key, rows }
    }

    /// The row that the run is about.
    pub(super) fn row(&self) -> Option<String> {
        self.rows.row(&self.key)
    }

    /// Writes the new value as the invalidator's caller does, at once.
    pub(super) fn renew(&self) {
        if self.takes(self.key, self.cell.version_of(NEW)) {
            self.script.note("   the source becomes new");
            self.rows.set(self.key, NEW.to_owned());
        }
    }

    /// Reads a row that must be there.
    pub(super) async fn read(&self, key: &u64) -> Result<String, SourceError> {
        self.step("reading", self.rows.fetch(key)).await
    }

    /// Reads those of `keys` that are there.
    pub(super) async fn read_many(&self, keys: &[u64]) -> Result<Vec<(u64, String)>, SourceError> {
        let read = async {
            let rows = self.rows.load_many(keys).await?;
            Ok(keys.iter().copied().zip(rows).filter_map(|(key, row)| Some((key, row?))).collect())
        };
        self.step("reading", read).await
    }

    async fn step<T: Debug>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let [before, after] = match what {
            "reading" => ["before reading the source", "after reading the source"],
            _ => ["before writing the source", "after writing the source"],
        };
        self.script.boundary(before).await;
        let result = work.await;
        self.script.note(format_args!("   the source says {result:?}"));
        self.script.boundary(after).await;
        result
    }

    /// Whether `version` is not older than what is there. A row that is gone was deleted by the victim.
    fn takes(&self, key: u64, version: u64) -> bool {
        let there = self.rows.row(&key);
        there.map_or(self.cell.version_of_write(), |row| self.cell.version_of(&row)) <= version
    }
}

#[async_trait]
impl Source<u64, String> for Rows {
    type Error = SourceError;

    async fn load(&self, key: &u64) -> Result<Option<String>, SourceError> {
        self.step("reading", self.rows.load(key)).await
    }

    async fn store(&self, key: &u64, value: &String) -> Result<(), SourceError> {
        self.store_many(&[(key, value)]).await
    }

    async fn store_many(&self, items: &[(&u64, &String)]) -> Result<(), SourceError> {
        let work = async {
            let version = self.cell.version_of_write();
            let taken: Vec<_> = items.iter().copied().filter(|(key, _)| self.takes(**key, version)).collect();
            self.rows.store_many(&taken).await
        };
        self.step("writing", work).await
    }

    async fn delete(&self, key: &u64) -> Result<(), SourceError> {
        let work = async {
            match self.takes(*key, self.cell.version_of_write()) {
                true => self.rows.delete(key).await,
                false => Ok(()),
            }
        };
        self.step("writing", work).await
    }
}
