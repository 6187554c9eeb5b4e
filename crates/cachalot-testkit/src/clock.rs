//! Clocks for tests. One that moves only when told is in core: `ManualClock`.

use cachalot_core::{Clock, Timestamp};
use tokio::time::Instant;

/// A clock that follows tokio's time, from 1,000,000 ms on: under a paused runtime
/// ([`block_on_paused`](crate::block_on_paused), `start_paused = true`) one `tokio::time::advance` moves
/// sleeps and expiries together.
pub fn tokio_clock() -> Clock {
    let start = Instant::now();
    Clock::custom(move || Timestamp::from_millis(1_000_000) + start.elapsed())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::block_on_paused;

    #[test]
    fn paused_time_moves_sleeps_and_the_clock_together() {
        block_on_paused(async {
            let clock = tokio_clock();
            let begin = clock.now();
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert_eq!(clock.now().since(begin), Duration::from_secs(3600));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(clock.coarse().since(begin), Duration::from_millis(3_600_001));
        });
    }
}
