//! Runtimes for tests.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

/// Runs `future` to its end on this thread, with timers and, where the build has it, I/O. Real time.
///
/// # Panics
/// If `future` does, or inside another runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    run(Builder::new_current_thread().enable_all(), future)
}

/// As [`block_on`] with tokio's time paused: it moves only by `tokio::time::advance`, or, when nothing else
/// is left to do, to the next timer. Not for real servers: waiting for one counts as nothing left to do.
///
/// # Panics
/// As [`block_on`].
pub fn block_on_paused<F: Future>(future: F) -> F::Output {
    run(Builder::new_current_thread().enable_all().start_paused(true), future)
}

fn run<F: Future>(builder: &mut Builder, future: F) -> F::Output {
    let runtime: Runtime = builder.build().unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(future)
}
