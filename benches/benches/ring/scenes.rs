//! What is measured, the same for everybody.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::contender::{Contender, Shift};

/// The keys that are looked up, of 20 bytes each, and how often things are repeated.
pub(crate) struct Keys {
    keys: Vec<&'static str>,
    batches: usize,
    builds: usize,
}

/// So many lookups are timed at once: short enough to fit between two interruptions.
const BATCH: usize = 4_096;

impl Keys {
    /// For figures.
    pub(crate) fn many() -> Self {
        Self::new(1 << 20, 64, 5)
    }

    /// For a check that all of it runs.
    pub(crate) fn few() -> Self {
        Self::new(BATCH, 1, 1)
    }

    /// They live as long as the program, as some contenders want them to.
    fn new(count: usize, batches: usize, builds: usize) -> Self {
        let key = |at: usize| format!("user:{:015x}", (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 4);
        let all: &'static str = String::leak((0..count).map(key).collect());
        let keys = (0..count).map(|at| &all[20 * at..20 * (at + 1)]).collect();
        Self { keys, batches, builds }
    }
}

fn names(nodes: usize) -> Vec<String> {
    (0..nodes).map(|node| format!("10.0.{}.{}:6379", node / 250, node % 250)).collect()
}

/// Nanoseconds a lookup, in the best batch: others run on this machine too.
pub(crate) fn lookup<C: Contender>(nodes: usize, keys: &Keys) -> f64 {
    let ring = C::of(&names(nodes));
    let batch = |batch: &[&'static str]| {
        let took = cpu_time(|| batch.iter().fold(0, |sum, key| ring.owner(key).wrapping_add(sum)));
        took.as_secs_f64() * 1e9 / batch.len() as f64
    };
    keys.keys.chunks_exact(BATCH).take(keys.batches).map(batch).fold(f64::INFINITY, f64::min)
}

/// Milliseconds to build it of its nodes' names, at best.
pub(crate) fn build<C: Contender>(nodes: usize, keys: &Keys) -> f64 {
    let names = names(nodes);
    let mut best = f64::INFINITY;
    for _ in 0..keys.builds {
        let took = cpu_time(|| C::of(&names)).as_secs_f64() * 1e3;
        best = best.min(took);
        // The slowest one need not be asked again.
        if took > 500.0 {
            break;
        }
    }
    best
}

/// Bytes that it holds once it is built.
pub(crate) fn bytes<C: Contender>(nodes: usize) -> f64 {
    let names = names(nodes);
    let held = allocation_counter::measure(|| {
        std::mem::forget(black_box(C::of(&names)));
    });
    held.bytes_current as f64
}

/// The keys of the fullest node over the mean.
pub(crate) fn peak_to_mean<C: Contender>(nodes: usize, keys: &Keys) -> f64 {
    let ring = C::of(&names(nodes));
    let mut owned = vec![0_u32; nodes];
    keys.keys.iter().for_each(|key| owned[ring.owner(key)] += 1);
    let fullest = owned.into_iter().max().unwrap_or(0);
    f64::from(fullest) * nodes as f64 / keys.keys.len() as f64
}

/// Keys that changed their node: as a multiple of the ideal share, and in percent between nodes that stayed.
pub(crate) struct Moves {
    pub(crate) join: f64,
    pub(crate) leave: f64,
    pub(crate) between_others: f64,
}

pub(crate) fn moves<C: Contender>(nodes: usize, keys: &Keys) -> Moves {
    let names = names(nodes + 1);
    let mut ring = C::of(&names[..nodes]);
    let owners = |ring: &C| -> Vec<usize> { keys.keys.iter().map(|key| ring.owner(key)).collect() };
    let before = owners(&ring);
    ring.join(&names[nodes]);
    let joined = owners(&ring);

    let leaver = C::leaver(nodes + 1);
    let shift = ring.leave(&names[leaver], leaver);
    let shifted = |owner: usize| owner + usize::from(shift == Shift::Down && owner >= leaver);
    let left: Vec<usize> = owners(&ring).into_iter().map(shifted).collect();

    let all = keys.keys.len() as f64;
    let moved =
        |from: &[usize], to: &[usize]| from.iter().zip(to).filter(|(from, to)| from != to).count() as f64;
    let others = |from: &[usize], to: &[usize], changed: usize| {
        let other = |(from, to): &(&usize, &usize)| from != to && **from != changed && **to != changed;
        from.iter().zip(to).filter(other).count() as f64
    };
    let between = others(&before, &joined, nodes) + others(&joined, &left, leaver);
    let share = all / (nodes + 1) as f64;
    Moves {
        join: moved(&before, &joined) / share,
        leave: moved(&joined, &left) / share,
        between_others: 100.0 * between / 2.0 / all,
    }
}

/// The processor time of this thread that `work` takes, its result dropped outside of it.
fn cpu_time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = thread_time();
    let done = black_box(work());
    let took = thread_time().saturating_sub(start);
    drop(done);
    took
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}
