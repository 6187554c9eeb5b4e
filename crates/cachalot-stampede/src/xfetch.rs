//! When a read should refresh an entry that is still fresh.

use std::time::Duration;

use cachalot_core::{Entropy, Error, ErrorKind, Result};

/// Decides whether this read should refresh the entry before it turns stale (XFetch).
///
/// True when `-beta * delta * ln(u) >= remaining`, so for `u` drawn evenly with probability
/// `exp(-remaining / (beta * delta))`: 37 % at `remaining == delta`, 0.7 % at five times that. The logarithm is
/// what makes it work: without it the reads of a busy key agree on a refresh once the TTL is over, all together.
///
/// - `remaining`: time to soft expiry. Zero refreshes always.
/// - `delta`: what the last load took, the loader's time alone ([`clamp_delta`]). Zero never refreshes early.
/// - `beta`: eagerness, unitless, usually 1. Zero never refreshes early; negative or not a number neither.
/// - `u`: from (0, 1] ([`Entropy::draw_unit`]). Anything else never refreshes early.
///
/// A key that is read often is refreshed e^(1/beta) times a cycle, however often it is read, if nothing else
/// joins the refreshes: 2.7 at 1, 1.6 at 2; `beta * delta * (ln(rate * beta * delta) + 0.58)` before its expiry.
///
/// Source: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015.
pub fn should_refresh(remaining: Duration, delta: Duration, beta: f64, u: f64) -> bool {
    if remaining.is_zero() {
        return true;
    }
    u > 0.0 && -(beta * delta.as_secs_f64() * u.ln()) >= remaining.as_secs_f64()
}

/// `delta` as [`should_refresh`] may use it: at most half of `ttl`, so that one slow load does not make every
/// read of the next cycle a refresh.
pub fn clamp_delta(delta: Duration, ttl: Duration) -> Duration {
    delta.min(ttl / 2)
}

/// XFetch with a checked eagerness. See [`should_refresh`].
///
/// ```
/// use cachalot_core::Entropy;
/// use cachalot_core::units::{millis, seconds};
/// use cachalot_stampede::XFetch;
///
/// let (xfetch, entropy) = (XFetch::default(), Entropy::seeded(7));
/// let draws = |remaining| (0..1000).filter(|_| xfetch.draw(remaining, millis(100), seconds(60), &entropy)).count();
/// assert_eq!(draws(seconds(30)), 0);
/// assert!((300..440).contains(&draws(millis(100))));
/// assert_eq!(draws(millis(0)), 1000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XFetch {
    beta: f64,
}

impl XFetch {
    /// Refreshes with eagerness `beta`: 1 is the usual, more is earlier, 0 is never early.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `beta` is negative, infinite or not a number.
    pub fn new(beta: f64) -> Result<Self> {
        if beta.is_finite() && beta >= 0.0 {
            return Ok(Self { beta });
        }
        let detail = format!("beta must be a number from 0 up, not {beta}");
        Err(Error::new(ErrorKind::Config, "xfetch").detail(detail))
    }

    /// The eagerness.
    pub fn beta(self) -> f64 {
        self.beta
    }

    /// Decides for one read, by a draw from `entropy`: `remaining` to soft expiry, of an entry that was loaded in
    /// `delta` to live for `ttl`. `delta` is clamped to half of `ttl`. Where no draw could say yes, none is made:
    /// a read far from expiry pays one multiplication.
    pub fn draw(self, remaining: Duration, delta: Duration, ttl: Duration, entropy: &Entropy) -> bool {
        let delta = clamp_delta(delta, ttl);
        let reach = self.beta * delta.as_secs_f64() * LEAST_UNIT_LN;
        if remaining.as_secs_f64() > reach {
            return false;
        }
        should_refresh(remaining, delta, self.beta, entropy.draw_unit())
    }
}

/// Above -ln of the least number that [`Entropy::draw_unit`] gives, 2^-53: 36.74.
const LEAST_UNIT_LN: f64 = 37.0;

impl Default for XFetch {
    /// Eagerness 1.
    fn default() -> Self {
        Self { beta: 1.0 }
    }
}

#[cfg(test)]
mod tests;
