//! How many refreshes may start.

use std::time::Duration;

use cachalot_core::{Error, ErrorKind, Result, Timestamp};

use crate::sync::{Mutex, lock};

/// A bound on refreshes that nobody waits for, over all keys: a token bucket. A refresh without a token is left
/// to a later read, so that refreshes never become the stampede.
///
/// Reads no clock. Exact: no part of a token is lost between calls. One short lock.
///
/// ```
/// use cachalot_core::Timestamp;
/// use cachalot_stampede::RefreshBudget;
///
/// # fn main() -> cachalot_core::Result<()> {
/// let budget = RefreshBudget::new(10, 2)?;
/// let now = Timestamp::from_millis(1_000);
/// assert!(budget.try_take(now) && budget.try_take(now), "the burst");
/// assert!(!budget.try_take(now));
/// assert!(budget.try_take(Timestamp::from_millis(1_100)), "one each 100 ms");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RefreshBudget {
    /// Tokens a second, so thousandths of a token a millisecond.
    rate: u64,
    /// The most that is saved up, in thousandths of a token.
    full: u64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    /// In thousandths of a token.
    held: u64,
    at: Timestamp,
}

const TOKEN: u64 = 1000;
/// Times of concurrent callers come out of order by less than this; a clock that was set goes back by more.
const DISORDER_MS: u64 = 1000;

impl RefreshBudget {
    /// `per_second` refreshes a second, and up to `burst` at once after a rest. Full at first.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if either is zero: that would be no refresh at all, ever.
    pub fn new(per_second: u32, burst: u32) -> Result<Self> {
        if per_second == 0 || burst == 0 {
            let detail = format!("{per_second} a second, {burst} at once: neither may be zero");
            return Err(Error::new(ErrorKind::Config, "refresh budget").detail(detail));
        }
        let full = u64::from(burst) * TOKEN;
        let level = Mutex::new(Level { held: full, at: Timestamp::NEVER });
        Ok(Self { rate: u64::from(per_second), full, level })
    }

    /// Takes a token, if there is one at `now`. A `now` before an earlier one adds nothing.
    pub fn try_take(&self, now: Timestamp) -> bool {
        let mut level = lock(&self.level);
        let gained = now.since(level.at).as_millis().saturating_mul(u128::from(self.rate));
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        level.held = level.held.saturating_add(gained).min(self.full);
        let back = level.at.as_millis().saturating_sub(now.as_millis());
        if back == 0 || back > DISORDER_MS {
            level.at = now;
        }
        let enough = level.held >= TOKEN;
        if enough {
            level.held -= TOKEN;
        }
        enough
    }

    /// Forgets what was saved up: from `now` on there is as much as `rest` earns, up to the burst. For one of several that
    /// take turns by a common rate, when its turn comes: in the turns of others it has earned nothing.
    pub fn resume(&self, now: Timestamp, rest: Duration) {
        let mut level = lock(&self.level);
        let is_used = level.at != Timestamp::NEVER;
        // Less than a token is its own: it has earned that in its turns.
        level.held = if is_used { level.held % TOKEN } else { 0 };
        level.at = now.back(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    /// How many of `tries` at `millis` are granted.
    fn granted(budget: &RefreshBudget, millis: u64, tries: usize) -> usize {
        (0..tries).filter(|_| budget.try_take(at(millis))).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let budget = RefreshBudget::new(5, 3).unwrap();
        assert_eq!(granted(&budget, 0, 100), 3);
        assert_eq!(granted(&budget, 199, 100), 0);
        assert_eq!(granted(&budget, 200, 100), 1);
        assert_eq!(granted(&budget, 1_200, 100), 3, "five were gained, three are kept");
    }

    #[test]
    fn frequent_asking_loses_no_part_of_a_token() {
        let budget = RefreshBudget::new(7, 2).unwrap();
        let all: usize = (0..=100_000).map(|millis| granted(&budget, millis, 3)).sum();
        assert_eq!(all, 2 + 700);
    }

    #[test]
    fn a_clock_that_goes_back_grants_nothing_and_blocks_nothing() {
        let budget = RefreshBudget::new(10, 1).unwrap();
        assert_eq!(granted(&budget, 100_000, 9), 1);
        assert_eq!(granted(&budget, 99_990, 9), 0);
        assert_eq!(granted(&budget, 100_050, 9), 0, "callers out of order gain nothing");
        assert_eq!(granted(&budget, 0, 9), 0);
        assert_eq!(granted(&budget, 100, 9), 1, "a clock that was set back is followed");
    }

    #[test]
    fn two_that_take_turns_stay_at_the_common_rate() {
        for rate in [1, 7, 20] {
            let budgets = [(); 2].map(|()| RefreshBudget::new(rate, 50).unwrap());
            let mut all = 0;
            for turn in 0..1000u64 {
                let budget = &budgets[(turn % 2) as usize];
                budget.resume(at(turn * 100), Duration::from_millis(100));
                all += granted(budget, turn * 100, 100);
            }
            let earned = 100 * rate as usize;
            assert!((earned - 2..=earned).contains(&all), "{all} at {rate} a second in 100 s");
        }
    }

    #[test]
    fn extremes_saturate() {
        let budget = RefreshBudget::new(u32::MAX, u32::MAX).unwrap();
        for now in [Timestamp::from_millis(0), Timestamp::NEVER, Timestamp::from_millis(0)] {
            assert!(budget.try_take(now));
        }
    }

    #[test]
    fn a_budget_of_nothing_is_refused() {
        assert_eq!(RefreshBudget::new(0, 1).unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(RefreshBudget::new(1, 0).unwrap_err().kind(), ErrorKind::Config);
    }
}
