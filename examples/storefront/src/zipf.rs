//! Popularity as shops see it: few things are asked for often, most hardly ever.

use fastrand::Rng;

/// Draws ranks from 1 to `n`, rank `r` with a probability proportional to `1 / r^exponent`.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// `cumulative[r - 1]` is the weight of the ranks up to `r`.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Prepares a table of `n` numbers, at least one.
    #[must_use]
    pub fn new(n: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=n.max(1)).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    /// One rank. Costs a binary search.
    pub fn sample(&self, rng: &mut Rng) -> u32 {
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let drawn = rng.f64() * total;
        let below = self.cumulative.partition_point(|&weight| weight <= drawn);
        below.min(self.cumulative.len() - 1) as u32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_exponent() {
        let zipf = Zipf::new(100, 1.0);
        let mut rng = Rng::with_seed(7);
        let mut counts = [0_u32; 101];
        for _ in 0..100_000 {
            counts[zipf.sample(&mut rng) as usize] += 1;
        }
        let harmonic: f64 = (1..=100).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 10, 100] {
            let expected = 100_000.0 / harmonic / f64::from(rank);
            let deviation = (f64::from(counts[rank as usize]) - expected).abs();
            assert!(
                deviation < 5.0 * expected.sqrt(),
                "rank {rank}: {} of {expected}",
                counts[rank as usize]
            );
        }
        assert_eq!(counts[0], 0);
    }

    #[test]
    fn a_single_rank_is_always_drawn() {
        let mut rng = Rng::with_seed(1);
        assert_eq!(Zipf::new(1, 0.99).sample(&mut rng), 1);
    }
}
