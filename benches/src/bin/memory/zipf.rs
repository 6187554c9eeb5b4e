//! Draws by popularity, prepared beforehand: drawing while measuring would be measured.

use benches::policy::mix;

/// How many draws are prepared; a power of two. They repeat after that.
pub(crate) const DRAWS: usize = 1 << 22;

/// [`DRAWS`] ranks below `ranks`, the n-th as likely as 1 / (n + 1)^exponent. The same in every run.
pub(crate) fn draws(ranks: u32, exponent: f64) -> Box<[u32]> {
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=ranks)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect();
    let draw = |at: usize| {
        let uniform = (mix(at as u64 ^ 0x21_9f00) >> 11) as f64 / (1u64 << 53) as f64;
        let rank = cumulated.partition_point(|&end| end <= uniform * sum);
        rank.min(cumulated.len() - 1) as u32
    };
    (0..DRAWS).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_has_its_share() {
        let draws = draws(1_000, 1.0);
        let first = draws.iter().filter(|&&rank| rank == 0).count() as f64 / DRAWS as f64;
        // 1 / H(1000) = 13.36 %.
        assert!((0.132..0.135).contains(&first), "{first}");
        assert!(draws.iter().all(|&rank| rank < 1_000));
    }
}
