//! Randomness as an injected effect.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Draws random numbers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Entropy {
    kind: Kind,
}

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Thread,
    Seeded(Arc<Mutex<fastrand::Rng>>),
}

impl Entropy {
    /// Draws from a generator of the thread; 128-bit draws come from the operating system.
    pub fn thread() -> Self {
        Self::default()
    }

    /// The same seed gives the same draws in the same order. Clones share the sequence.
    pub fn seeded(seed: u64) -> Self {
        Self { kind: Kind::Seeded(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))) }
    }

    /// A number from all of `u64`, evenly.
    pub fn draw_u64(&self) -> u64 {
        match &self.kind {
            Kind::Thread => fastrand::u64(..),
            Kind::Seeded(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).u64(..),
        }
    }

    /// A number from (0, 1], evenly: never zero, so that its logarithm is finite.
    pub fn draw_unit(&self) -> f64 {
        const STEPS: f64 = (1u64 << 53) as f64;
        ((self.draw_u64() >> 11) + 1) as f64 / STEPS
    }

    /// A number from [-1, 1], evenly.
    pub fn draw_signed_unit(&self) -> f64 {
        self.draw_unit() * 2.0 - 1.0
    }

    /// 16 bytes that no other process will draw. From the operating system, unless seeded; if it has none
    /// to give, from the thread's generator.
    pub fn draw_128(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if matches!(self.kind, Kind::Thread) && getrandom::fill(&mut bytes).is_ok() {
            return bytes;
        }
        bytes[..8].copy_from_slice(&self.draw_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&self.draw_u64().to_le_bytes());
        bytes
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Thread => "Entropy::thread",
            Kind::Seeded(_) => "Entropy::seeded",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_draws() {
        let (a, b) = (Entropy::seeded(7), Entropy::seeded(7));
        assert_eq!(a.draw_128(), b.draw_128());
        assert_eq!(a.draw_u64(), b.draw_u64());
        assert_ne!(Entropy::seeded(8).draw_u64(), Entropy::seeded(7).draw_u64());
    }

    #[test]
    fn units_are_above_zero_and_even() {
        let entropy = Entropy::seeded(1);
        let draws: Vec<f64> = (0..100_000).map(|_| entropy.draw_unit()).collect();
        assert!(draws.iter().all(|u| *u > 0.0 && *u <= 1.0));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
    }

    #[test]
    fn tokens_differ() {
        let entropy = Entropy::thread();
        assert_ne!(entropy.draw_128(), entropy.draw_128());
    }
}
