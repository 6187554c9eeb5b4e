//! Is the cache the right size? A sample of the reads tells what others would do.

use ahash::RandomState;
use cachalot_memory_backend::CurveSampler;

fn main() {
    let entries = 50_000;
    let sampler = CurveSampler::new(entries);
    let hasher = RandomState::with_seed(7);
    let reads = 3_000_000;
    for read in 0..reads {
        let hash = hasher.hash_one(key(read));
        // All that a read of an unsampled key costs.
        if sampler.is_sampled(hash) {
            sampler.observe(hash);
        }
    }
    let curve = sampler.curve(reads, entries);
    println!("{} of {reads} reads observed", curve.samples());
    for factor in [0.25, 0.5, 1.0, 2.0, 4.0] {
        let percent = 100.0 * curve.hit_ratio_at(factor);
        println!("at {factor:>4} times {entries} entries the hit ratio would be {percent:.1} %");
    }
}

/// Every other read goes round 80,000 articles; the rest are spread over a million, most of them at the front.
fn key(read: u64) -> u64 {
    if read.is_multiple_of(2) {
        return read / 2 % 80_000;
    }
    let uniform = (read.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64;
    1_000_000 + (uniform.powi(6) * 1e6) as u64
}
