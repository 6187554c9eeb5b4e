mod contract;
mod damage;
mod failures;
mod faulty;
mod model;
mod space;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cachalot_core::{Clock, Entropy, Result};

use self::faulty::Faulty;
use super::{FileJournal, Journal, Logged, Recovered};

async fn open(journal: FileJournal) -> Result<(Arc<dyn Journal>, Recovered)> {
    journal.open(&Entropy::seeded(1), &Clock::system()).await
}

async fn open_on(journal: FileJournal, faulty: &Faulty) -> Result<(Arc<dyn Journal>, Recovered)> {
    journal.open_on(faulty.disk(), &Entropy::seeded(1), &Clock::system()).await
}

/// On a disk that does not wait for the hardware.
async fn open_quick(journal: FileJournal, folder: &Path) -> Result<(Arc<dyn Journal>, Recovered)> {
    open_on(journal, &Faulty::over(folder)).await
}

fn put(log: &Arc<dyn Journal>, key: &str, value: &str) -> u64 {
    log.append(Bytes::copy_from_slice(key.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes())))
}

/// A write that is durable.
async fn keep(log: &Arc<dyn Journal>, key: &str, value: &str) -> u64 {
    let sequence = put(log, key, value);
    log.durable(sequence).await.unwrap();
    sequence
}

fn write(sequence: u64, key: &str, value: &str) -> Logged {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Logged { sequence, key: bytes(key), value: Some(bytes(value)) }
}

fn values(recovered: &Recovered) -> Vec<String> {
    let text =
        |write: &Logged| String::from_utf8_lossy(write.value.as_deref().unwrap_or(b"deleted")).into_owned();
    recovered.writes.iter().map(text).collect()
}

fn segments(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".log"))
        .collect();
    names.sort();
    names
}
