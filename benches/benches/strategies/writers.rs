//! Writers that write for a while, each its next value when the last was taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::Keys;
use tokio::task::JoinSet;

use crate::sqlite::Value;

/// What the writers did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// How many writes were acknowledged.
    pub(crate) count: u64,
    /// How long a caller waited, on average.
    pub(crate) each: Duration,
}

/// Lets `writers` write hot keys for so long.
pub(crate) async fn write<F>(
    writers: u64,
    time: Duration,
    put: impl Fn(u64, Value) -> F + Send + Sync + 'static,
) -> Written
where
    F: Future<Output = ()> + Send,
{
    let put = Arc::new(put);
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (put, mut keys) = (put.clone(), Keys::seeded(writer + 1));
        tasks.spawn(async move {
            let mut count = 0;
            while began.elapsed() < time {
                let key = keys.draw();
                put(key, [key as u8; 32]).await;
                count += 1;
            }
            (count, began.elapsed())
        });
    }
    let (mut count, mut waited) = (0, Duration::ZERO);
    while let Some(done) = tasks.join_next().await {
        let Ok((own, time)) = done else { panic!("a writer died") };
        count += own;
        waited += time;
    }
    Written { count, each: waited.div_f64(count as f64) }
}
