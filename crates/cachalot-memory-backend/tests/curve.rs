//! The sampled curve against exact LRU stack distances.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use cachalot_memory_backend::{CurveSampler, Memory};

const FACTORS: [f64; 9] = [0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0];

/// splitmix64: uniform in all bits, which is what the sampler asks of a hash.
fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Draws(u64);

impl Draws {
    /// In [0, 1).
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(1);
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Keys of a Zipf distribution.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=keys).map(|rank| (rank as f64).powf(-exponent));
        Self(
            weights
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, draws: &mut Draws) -> u64 {
        let at = draws.uniform() * self.0.last().unwrap();
        self.0.partition_point(|sum| *sum <= at) as u64
    }
}

fn zipf(exponent: f64, keys: usize, reads: usize, seed: u64) -> Vec<u64> {
    let (zipf, mut draws) = (Zipf::new(keys, exponent), Draws(seed << 32));
    (0..reads).map(|_| zipf.draw(&mut draws)).collect()
}

/// The hit ratio of an LRU of each capacity, from the distance of each read to the key's last one.
struct Exact {
    /// How many reads would hit from this many entries on.
    from: Vec<u64>,
    reads: usize,
}

impl Exact {
    fn of(keys: &[u64]) -> Self {
        let mut tree = vec![0_i32; keys.len() + 1];
        let add = |tree: &mut Vec<i32>, mut node: usize, by: i32| {
            while node < tree.len() {
                tree[node] += by;
                node += node & node.wrapping_neg();
            }
        };
        let mut last: HashMap<u64, usize> = HashMap::new();
        let mut from = vec![0; keys.len() + 1];
        for (time, key) in (1..).zip(keys) {
            if let Some(before) = last.insert(*key, time) {
                let (mut node, mut up_to) = (before, 0);
                while node > 0 {
                    up_to += tree[node];
                    node &= node - 1;
                }
                // The key itself is among those up to its last read.
                from[last.len() - up_to as usize + 1] += 1;
                add(&mut tree, before, -1);
            }
            add(&mut tree, time, 1);
        }
        Self { from, reads: keys.len() }
    }

    fn hit_ratio(&self, entries: f64) -> f64 {
        let hits: u64 = self.from.iter().take(entries as usize + 1).sum();
        hits as f64 / self.reads as f64
    }
}

/// The mean absolute error over the factors and over choices of which keys are sampled.
fn mean_error(keys: &[u64], entries: u64) -> f64 {
    let exact = Exact::of(keys);
    let seeds = 4;
    let mut sum = 0.0;
    for seed in 0..seeds {
        let sampler = CurveSampler::new(entries);
        for key in keys {
            let hash = mix(key ^ mix(seed));
            if sampler.is_sampled(hash) {
                sampler.observe(hash);
            }
        }
        let curve = sampler.curve(keys.len() as u64, entries);
        let errors =
            FACTORS.map(|factor| curve.hit_ratio_at(factor) - exact.hit_ratio(factor * entries as f64));
        sum += errors.map(f64::abs).iter().sum::<f64>();
    }
    sum / (seeds as usize * FACTORS.len()) as f64
}

const ENTRIES: u64 = 20_000;
const READS: usize = 1_000_000;

#[test]
fn the_curve_of_a_zipf_is_near_the_exact_one() {
    for exponent in [0.7, 0.9, 1.1] {
        let error = mean_error(&zipf(exponent, 200_000, READS, 1), ENTRIES);
        assert!(error <= 0.02, "Zipf {exponent}: {error}");
    }
}

#[test]
fn the_curve_of_a_loop_is_near_the_exact_one() {
    for keys in [8_000, 24_000, 50_000] {
        let reads: Vec<u64> = (0..READS as u64).map(|read| read % keys).collect();
        let error = mean_error(&reads, ENTRIES);
        assert!(error <= 0.02, "a loop over {keys} keys: {error}");
    }
}

#[test]
fn the_curve_of_scans_among_a_zipf_is_near_the_exact_one() {
    let mut draws = Draws(3);
    let mut fresh = 1 << 40;
    let reads: Vec<u64> = zipf(0.9, 200_000, READS, 2)
        .into_iter()
        .map(|key| {
            if draws.uniform() < 0.3 {
                fresh += 1;
                fresh
            } else {
                key
            }
        })
        .collect();
    let error = mean_error(&reads, ENTRIES);
    assert!(error <= 0.02, "{error}");
}

#[test]
fn what_a_curve_tells_is_about_the_reads_since_an_earlier_one() {
    let (sampler, mut reads) = (CurveSampler::new(ENTRIES), 0);
    let mut read = |key: u64| {
        reads += 1;
        let hash = mix(key);
        if sampler.is_sampled(hash) {
            sampler.observe(hash);
        }
        reads
    };
    // A scan, then a loop that fits.
    let scanned = (0..500_000).map(|key| read(key + (1 << 40))).last().unwrap();
    let then = sampler.curve(scanned, ENTRIES);
    (0..10_000).for_each(|key| {
        read(key);
    });
    let warm = sampler.curve(scanned + 10_000, ENTRIES);
    let looped = (0..500_000).map(|step| read(step % 10_000)).last().unwrap();
    let now = sampler.curve(looped, ENTRIES);
    assert!(then.hit_ratio_at(1.0) < 0.01, "{then:?}");
    assert!(now.since(&warm).hit_ratio_at(1.0) > 0.99, "{now:?}");
    assert!((now.hit_ratio_at(1.0) - 0.495).abs() < 0.03, "{now:?}");
    assert_eq!(now.since(&warm).reads(), 500_000);
}

#[test]
fn ever_new_keys_do_not_wear_the_sample_out() {
    // Four million keys come and go, 10,000 at a time, each read twice.
    let (sampler, mut reads) = (CurveSampler::new(ENTRIES), 0);
    let mut warm = None;
    for generation in 0..400_u64 {
        for key in (0..10_000).chain(0..10_000) {
            reads += 1;
            let hash = mix(generation * 10_000 + key);
            if sampler.is_sampled(hash) {
                sampler.observe(hash);
            }
        }
        if generation == 300 {
            warm = Some(sampler.curve(reads, ENTRIES));
        }
    }
    let late = sampler.curve(reads, ENTRIES).since(&warm.unwrap());
    assert!(late.samples() > 15_000, "{}", late.samples());
    assert!((late.hit_ratio_at(1.0) - 0.5).abs() < 0.02, "{late:?}");
    assert!(late.hit_ratio_at(0.25) < 0.02, "{late:?}");
}

#[test]
fn a_sampler_made_for_another_size_begins_anew_at_a_fitting_rate() {
    let sampler = CurveSampler::new(1_000);
    let before = sampler.rate();
    let first = sampler.curve(10, 10_000_000);
    assert!(first.reach() < 0.1, "{}", first.reach());
    assert!(sampler.rate() < before / 100.0);
    let second = sampler.curve(10, 10_000_000);
    assert!((4.0..6.0).contains(&second.reach()), "{}", second.reach());
    assert_eq!((second.reads(), second.since(&first).reads()), (0, 0));
}

#[test]
fn of_nothing_the_hit_ratio_is_zero() {
    let curve = CurveSampler::new(0).curve(0, 0);
    assert_eq!([0.0, 1.0, f64::INFINITY, f64::NAN].map(|factor| curve.hit_ratio_at(factor)), [0.0; 4]);
}

#[test]
fn threads_that_meet_drop_reads_and_the_curve_allows_for_it() {
    let keys = 10_000;
    let sampler = CurveSampler::new(ENTRIES);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sampler = &sampler;
            scope.spawn(move || {
                for step in 0..500_000_u64 {
                    let hash = mix((step + thread * 2_500) % keys);
                    if sampler.is_sampled(hash) {
                        sampler.observe(hash);
                    }
                }
            });
        }
    });
    let curve = sampler.curve(2_000_000, ENTRIES);
    assert!(curve.hit_ratio_at(1.0) > 0.97, "{curve:?}");
}

#[test]
fn a_memory_tells_its_curve_if_it_is_asked_to() {
    let plain: Memory<u64, u64> = Memory::entries(100).build().unwrap();
    assert!(plain.miss_ratio_curve().is_none());
    let memory: Memory<u64, u64> = Memory::entries(10_000).miss_ratio_curve(true).build().unwrap();
    for read in 0..300_000 {
        let key = read % 25_000;
        if memory.get(&key).is_none() {
            memory.insert(key, key);
        }
    }
    let curve = memory.miss_ratio_curve().unwrap();
    assert_eq!(curve.reads(), 300_000);
    assert!(curve.samples() > 1500, "{}", curve.samples());
    let ratios = [0.5, 1.5, 4.0].map(|factor| curve.hit_ratio_at(factor));
    assert!(ratios[0] < 0.02 && ratios[1] < 0.02 && ratios[2] > 0.85, "{ratios:?}");
    memory.resize(1_000_000).unwrap();
    drop(memory.miss_ratio_curve());
    for read in 0..300_000u64 {
        memory.get(&(read % 25_000));
    }
    let curve = memory.miss_ratio_curve().unwrap();
    assert_eq!(curve.reads(), 300_000, "begun anew for the new capacity");
    assert!(curve.hit_ratio_at(1.0) > 0.85, "{curve:?}");
}
