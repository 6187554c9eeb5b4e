//! The server's clock, as far as we can tell from here.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use cachalot_core::Timestamp;

/// How long a reading serves before the server is asked again, ms.
const TRUSTED_MS: u64 = 60_000;

/// How far the server's clock is ahead of ours. Each reading bounds it by its own round trip; what was
/// known before stays, as far as it lies within the bounds.
#[derive(Debug)]
pub(crate) struct ServerTime {
    ahead_ms: AtomicI64,
    read_at_ms: AtomicU64,
}

impl ServerTime {
    /// From the first reading: the server said `server_ms` between `sent` and `received`.
    pub(crate) fn new(server_ms: u64, sent: Timestamp, received: Timestamp) -> Self {
        let (low, high) = bounds(server_ms, sent, received);
        Self {
            ahead_ms: AtomicI64::new(low.saturating_add(high) / 2),
            read_at_ms: AtomicU64::new(received.as_millis()),
        }
    }

    /// Takes another reading into account.
    pub(crate) fn observe(&self, server_ms: u64, sent: Timestamp, received: Timestamp) {
        let (low, high) = bounds(server_ms, sent, received);
        let known = self.ahead_ms.load(Ordering::Relaxed);
        let ahead = known.clamp(low, high);
        if ahead != known {
            self.ahead_ms.store(ahead, Ordering::Relaxed);
        }
        self.read_at_ms.store(received.as_millis(), Ordering::Relaxed);
    }

    /// The server's time at our `now`, ms.
    pub(crate) fn at(&self, now: Timestamp) -> u64 {
        now.as_millis().saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Whether the last reading is too old. True for one caller only, which then asks the server.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let read_at = self.read_at_ms.load(Ordering::Relaxed);
        now.as_millis() > read_at.saturating_add(TRUSTED_MS)
            && self
                .read_at_ms
                .compare_exchange(read_at, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// The least and the most that the server can be ahead. Both clocks cut to whole milliseconds.
fn bounds(server_ms: u64, sent: Timestamp, received: Timestamp) -> (i64, i64) {
    let ahead_of = |ours: Timestamp| i64::try_from(i128::from(server_ms) - i128::from(ours.as_millis()));
    let low = ahead_of(received).unwrap_or(i64::MIN).saturating_sub(1);
    let high = ahead_of(sent).unwrap_or(i64::MAX).saturating_add(1);
    (low.min(high), high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_server_15_minutes_ahead_is_known_within_half_a_round_trip() {
        let quarter = 900_000;
        // Sent at 1,000, received at 1,010; the server read its clock in between.
        for server in 1_000..=1_010 {
            let time = ServerTime::new(quarter + server, at(1_000), at(1_010));
            assert!(time.at(at(2_000)).abs_diff(quarter + 2_000) <= 6, "{server}");
        }
    }

    #[test]
    fn a_slow_reading_does_not_spoil_a_good_one() {
        let time = ServerTime::new(5_000, at(1_000), at(1_000));
        time.observe(6_900, at(2_000), at(4_000));
        assert_eq!(time.at(at(5_000)), 9_000);
    }

    #[test]
    fn a_step_of_the_servers_clock_is_followed_at_once() {
        let time = ServerTime::new(5_000, at(1_000), at(1_000));
        time.observe(103_000, at(2_000), at(2_000));
        assert!(time.at(at(3_000)).abs_diff(104_000) <= 1);
        time.observe(3_000, at(4_000), at(4_000));
        assert!(time.at(at(4_000)).abs_diff(3_000) <= 1);
    }

    #[test]
    fn an_old_reading_is_renewed_by_one_caller() {
        let time = ServerTime::new(5_000, at(1_000), at(1_000));
        assert!(!time.is_due(at(61_000)));
        assert!(time.is_due(at(61_001)));
        assert!(!time.is_due(at(61_001)));
    }

    #[test]
    fn times_beyond_all_range_do_not_overflow() {
        let time = ServerTime::new(u64::MAX, at(0), at(0));
        assert!(time.at(at(u64::MAX)) > 0);
        time.observe(0, at(u64::MAX), at(u64::MAX));
        time.observe(0, at(u64::MAX), at(0));
        assert_eq!(time.at(at(0)), 0);
    }
}
