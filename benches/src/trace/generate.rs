//! Generated workloads: the same keys in every run.

use super::Trace;
use crate::policy::mix;

/// Every generated workload: three of Zipf, scans mixed with Zipf, a loop, a shifting hot set, reads that
/// come in pairs (as in the corda trace, where only recency helps), and such pairs before and after a loop.
pub fn generated() -> Vec<Trace> {
    let trace = |name: &str, keys| Trace { name: name.into(), keys };
    vec![
        trace("zipf-0.7", zipf(0.7, 1)),
        trace("zipf-0.9", zipf(0.9, 2)),
        trace("zipf-1.1", zipf(1.1, 3)),
        trace("scan-zipf", scans_amid_zipf()),
        trace("loop", looped(0, 20_000, 300_000)),
        trace("shift", shifting()),
        trace("corda-like", pairs(0, 150_000)),
        trace("corda-loop-corda", pairs_loop_pairs()),
    ]
}

fn zipf(exponent: f64, seed: u64) -> Vec<u64> {
    let ranks = Zipf::new(40_000, exponent);
    let mut dice = Dice(seed);
    (0..400_000).map(|_| ranks.draw(&mut dice)).collect()
}

/// After each 3,000 reads by popularity come 1,500 of keys that nobody reads again.
fn scans_amid_zipf() -> Vec<u64> {
    let ranks = Zipf::new(20_000, 0.9);
    let mut dice = Dice(4);
    let mut keys = Vec::new();
    for scan in 1..=80 {
        keys.extend((0..3_000).map(|_| ranks.draw(&mut dice)));
        keys.extend((0..1_500).map(|at| scan * 1_000_000 + at));
    }
    keys
}

fn looped(first: u64, length: u64, reads: u64) -> Vec<u64> {
    (0..reads).map(|at| first + at % length).collect()
}

/// Popularity stays as steep, but every 25,000 reads another 2,000 keys become the popular ones.
fn shifting() -> Vec<u64> {
    let ranks = Zipf::new(10_000, 1.0);
    let mut dice = Dice(5);
    (0..300_000).map(|at| at / 25_000 * 2_000 + ranks.draw(&mut dice)).collect()
}

/// Of each two keys one is read again, after 100 to 400 other reads, and then never more.
fn pairs(first: u64, reads: usize) -> Vec<u64> {
    let mut dice = Dice(6 + first);
    let mut keys = vec![None; reads + 400];
    let mut next = first;
    for at in 0..reads {
        if keys[at].is_some() {
            continue;
        }
        keys[at] = Some(next);
        if next.is_multiple_of(2) {
            let again = at + 100 + dice.below(300) as usize;
            let free = keys[again..].iter().position(Option::is_none);
            if let Some(free) = free {
                keys[again + free] = Some(next);
            }
        }
        next += 1;
    }
    keys.into_iter().take(reads).flatten().collect()
}

fn pairs_loop_pairs() -> Vec<u64> {
    let mut keys = pairs(1_000_000, 100_000);
    keys.extend(looped(0, 3_000, 120_000));
    keys.extend(pairs(2_000_000, 100_000));
    keys
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(end)) >> 64) as u64
    }
}

/// Ranks from 0, the n-th of them as likely as 1 / (n + 1)^exponent.
struct Zipf {
    /// The chance of a rank or a lower one, in units of 2^-53.
    cumulated: Vec<u64>,
}

impl Zipf {
    fn new(ranks: usize, exponent: f64) -> Self {
        let weights: Vec<f64> = (1..=ranks).map(|rank| (rank as f64).powf(-exponent)).collect();
        let all: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let cumulated = weights.iter().map(|weight| {
            sum += weight;
            (sum / all * (1u64 << 53) as f64) as u64
        });
        Self { cumulated: cumulated.collect() }
    }

    fn draw(&self, dice: &mut Dice) -> u64 {
        let at = dice.roll() >> 11;
        let rank = self.cumulated.partition_point(|&end| end <= at);
        rank.min(self.cumulated.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_paired_keys_are_read_twice_and_no_key_more_often() {
        let mut keys = pairs(0, 30_000);
        assert_eq!(keys.len(), 30_000);
        keys.sort_unstable();
        let counts: Vec<usize> = keys.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
        assert_eq!(counts.iter().max(), Some(&2));
        let twice = counts.iter().filter(|&&count| count == 2).count();
        assert!((9_800..10_100).contains(&twice), "{twice}");
    }

    #[test]
    fn the_first_rank_of_zipf_has_its_share() {
        let ranks = Zipf::new(1_000, 1.0);
        let mut dice = Dice(7);
        let first = (0..100_000).filter(|_| ranks.draw(&mut dice) == 0).count();
        // 1 / H(1000) = 13.36 %.
        assert!((13_000..13_700).contains(&first), "{first}");
    }
}
