//! Pauses between tries.

use std::time::Duration;

use cachalot_core::Entropy;

/// Doubling pauses with full jitter: each is drawn evenly from zero to a bound that doubles up to a cap, so
/// that processes that failed together do not try together.
#[derive(Clone, Debug)]
pub struct Backoff {
    bound: Duration,
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// Pauses of at most `first`, then twice that, up to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { bound: first, first, cap }
    }

    /// The next pause. Never below a tenth of its bound, so that a run of small draws is no busy loop.
    pub fn next(&mut self, entropy: &Entropy) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.cap);
        bound.mul_f64(entropy.draw_unit().max(0.1))
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        let entropy = Entropy::seeded(5);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        for turn in 0..20u32 {
            let bound =
                Duration::from_millis(50).saturating_mul(1 << turn.min(10)).min(Duration::from_secs(5));
            let pause = backoff.next(&entropy);
            assert!(pause <= bound && pause >= bound / 11, "turn {turn}: {pause:?} of {bound:?}");
        }
        backoff.reset();
        assert!(backoff.next(&entropy) <= Duration::from_millis(50));
    }
}
