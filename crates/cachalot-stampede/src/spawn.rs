//! Background work on tokio.

use cachalot_core::{BoxFuture, Spawn};

/// Spawns onto the tokio runtime of the calling task, which must be one.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // Dropping the handle detaches the task.
        drop(tokio::spawn(task));
    }
}
