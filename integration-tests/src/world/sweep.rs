//! Many worlds, one after another, on as many threads as there are cores.

use std::fmt::Write;
use std::ops::Range;
use std::thread;

use super::{Plan, Report};

/// What came of many worlds.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// How many were lived through.
    pub worlds: u64,
    /// The seeds of those in which the promise was broken.
    pub broken: Vec<u64>,
    /// How often shards were ejected or taken back.
    pub turns: u64,
    reads: usize,
    promises: usize,
    deferred: usize,
}

/// Lives through the worlds of `seeds` by `live`: a plan, and whether to keep the trace.
pub fn sweep(seeds: Range<u64>, live: impl Fn(&Plan, bool) -> Report + Sync) -> Sweep {
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let lane = |lane: u64| {
        let mut swept = Sweep::default();
        for seed in seeds.clone().filter(|seed| seed % threads == lane) {
            swept.count(seed, &live(&Plan::draw(seed), false));
        }
        swept
    };
    let mut swept = Sweep::default();
    thread::scope(|scope| {
        let lane = &lane;
        let lanes: Vec<_> = (0..threads).map(|number| scope.spawn(move || lane(number))).collect();
        for lane in lanes {
            swept.add(lane.join().expect("a world panics"));
        }
    });
    swept.broken.sort_unstable();
    swept
}

impl Sweep {
    fn count(&mut self, seed: u64, report: &Report) {
        self.worlds += 1;
        self.reads += report.reads;
        self.promises += report.promises;
        self.deferred += report.deferred;
        self.turns += report.turns;
        self.broken.extend(report.broken.is_some().then_some(seed));
    }

    fn add(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.reads += other.reads;
        self.promises += other.promises;
        self.deferred += other.deferred;
        self.turns += other.turns;
        self.broken.extend(other.broken);
    }

    /// Panics with the story of the first broken world, if there is one, and how `test` shows it again. `live`
    /// as for [`sweep`].
    pub fn assert_unbroken(&self, test: &str, live: impl Fn(&Plan, bool) -> Report) {
        if let Some(seed) = self.broken.first() {
            let (broken, story) = (self.broken.len(), tell(*seed, test, &live));
            panic!("{broken} of {} worlds are broken\n{story}", self.worlds);
        }
    }

    /// Panics if too little has happened: a world in which nothing does proves nothing.
    pub fn assert_lively(&self) {
        let worlds = self.worlds as usize;
        assert!(
            worlds < 100
                || (self.reads > 20 * worlds && self.promises > 5 * worlds && self.deferred > worlds / 4),
            "too little happens: {self:?}"
        );
    }

    /// The part of the worlds in which the promise was broken.
    pub fn broken_share(&self) -> f64 {
        self.broken.len() as f64 / self.worlds as f64
    }
}

/// What broke the promise in the world of `seed`, how to see it again, and the least that has to happen for it.
fn tell(seed: u64, test: &str, live: &impl Fn(&Plan, bool) -> Report) -> String {
    let plan = Plan::draw(seed);
    let all = plan.actions.len();
    let least = plan.shrink(|plan| live(plan, false).broken.is_some());
    let report = live(&least, true);
    let mut story = String::new();
    let _ = writeln!(story, "seed {seed}: {}", report.broken.unwrap_or_default());
    let _ = writeln!(story, "again: CACHALOT_SEED={seed} cargo test -p integration-tests {test}");
    let _ = writeln!(
        story,
        "the least that shows it, {} of {all} actions:\n{}",
        least.actions.len(),
        report.trace
    );
    story
}
