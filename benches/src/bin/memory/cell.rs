//! One workload at one number of threads, measured in rounds.

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::clocks::Moment;
use super::{Data, Key, Kind, Spread, Subject, Visitor, Workload, for_each};

/// Long enough to drown a context switch, short enough that the contenders of a round share its weather.
const ROUND: Duration = Duration::from_millis(100);

/// Everybody's samples in one workload at one number of threads.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) workload: &'static str,
    pub(crate) threads: usize,
    pub(crate) all: Vec<Series>,
}

/// One contender's samples, a round each.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) samples: Vec<Sample>,
}

/// What a round said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Nanoseconds an operation, of the cores that the threads could use.
    pub(crate) wall: f64,
    /// Nanoseconds an operation that threads really ran.
    pub(crate) cpu: f64,
    /// Hits per operation.
    pub(crate) hits: f64,
}

/// Which clock a figure is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Wall,
    Cpu,
}

impl Sample {
    fn by(&self, by: By) -> f64 {
        match by {
            By::Wall => self.wall,
            By::Cpu => self.cpu,
        }
    }
}

impl Series {
    /// Nanoseconds an operation.
    pub(crate) fn time(&self, by: By) -> Spread {
        Spread::of(self.samples.iter().map(|sample| sample.by(by)))
    }

    /// Time over another's, round by round.
    pub(crate) fn over(&self, other: &Self, by: By) -> Spread {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.map(|(ours, theirs)| ours.by(by) / theirs.by(by)))
    }

    /// Time beyond another's, round by round.
    pub(crate) fn beyond(&self, other: &Self, by: By) -> Spread {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.map(|(ours, theirs)| ours.by(by) - theirs.by(by)))
    }

    /// Hits in percent of the operations.
    pub(crate) fn hit_percent(&self) -> f64 {
        100.0 * Spread::of(self.samples.iter().map(|sample| sample.hits)).median
    }
}

impl Cell {
    pub(crate) fn series(&self, name: &str) -> Option<&Series> {
        self.all.iter().find(|series| series.name == name)
    }

    /// The fastest bounded cache that is not ours.
    pub(crate) fn best_peer(&self) -> Option<&Series> {
        let peers = self.all.iter().filter(|series| series.kind == Kind::Peer);
        peers.min_by(|a, b| a.time(By::Wall).median.total_cmp(&b.time(By::Wall).median))
    }
}

/// Measures everybody in `rounds` rounds, each beginning with another contender.
pub(crate) fn measure<K: Key, V: Data>(
    name: &'static str,
    workload: &impl Workload<K, V>,
    threads: usize,
    rounds: usize,
) -> Cell {
    let mut everybody = Gather { workload, threads, running: Vec::new() };
    for_each(&mut everybody);
    let mut running = everybody.running;
    for round in 0..rounds {
        for at in 0..running.len() {
            let at = (at + round) % running.len();
            let one = &mut running[at];
            let sample = one.round.run();
            one.series.samples.push(sample);
        }
    }
    Cell { workload: name, threads, all: running.into_iter().map(|one| one.series).collect() }
}

/// Builds, fills and calibrates each contender.
struct Gather<'a, W> {
    workload: &'a W,
    threads: usize,
    running: Vec<Running<'a>>,
}

struct Running<'a> {
    round: Box<dyn Round + 'a>,
    series: Series,
}

impl<K: Key, V: Data, W: Workload<K, V>> Visitor<K, V> for Gather<'_, W> {
    fn visit<S: Subject<K, V>>(&mut self) {
        let subject = S::holding(self.workload.capacity());
        self.workload.prepare(&subject);
        let mut hammer = Hammer {
            step: {
                let workload = self.workload;
                move |at| workload.step(&subject, at)
            },
            threads: self.threads,
            each: 2_000,
            from: 0,
        };
        hammer.calibrate();
        let series = Series { name: S::NAME, kind: S::KIND, samples: Vec::new() };
        self.running.push(Running { round: Box::new(hammer), series });
    }
}

trait Round {
    fn run(&mut self) -> Sample;
}

/// Threads that take the same number of steps each.
struct Hammer<F> {
    step: F,
    threads: usize,
    each: usize,
    /// Where in the stream the next round begins.
    from: usize,
}

/// What a thread did.
struct Stint {
    begin: Moment,
    end: Moment,
    hits: usize,
}

impl<F: Fn(usize) -> bool + Sync> Hammer<F> {
    /// Finds how many steps make a round.
    fn calibrate(&mut self) {
        loop {
            let took = span(&self.stints());
            if took * 4 >= ROUND {
                let share = ROUND.as_secs_f64() / took.as_secs_f64();
                self.each = ((self.each as f64 * share) as usize).max(1);
                return;
            }
            self.each *= 3;
        }
    }

    fn stints(&mut self) -> Vec<Stint> {
        let start = Barrier::new(self.threads);
        let (step, each, from) = (&self.step, self.each, self.from);
        let work = |thread: usize| {
            // Far apart, and not in step with any period.
            let from = from + thread * 1_048_573;
            let warm_up = each / 16;
            (from..from + warm_up).for_each(|at| {
                step(at);
            });
            start.wait();
            let begin = Moment::now();
            let hits = (from + warm_up..from + warm_up + each).filter(|&at| step(at)).count();
            Stint { begin, end: Moment::now(), hits }
        };
        let work = &work;
        let stints = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|thread| scope.spawn(move || work(thread))).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, Stint>| {
                worker.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            workers.into_iter().map(join).collect()
        });
        self.from += each + each / 16;
        stints
    }
}

impl<F: Fn(usize) -> bool + Sync> Round for Hammer<F> {
    fn run(&mut self) -> Sample {
        let stints = self.stints();
        let operations = (self.each * self.threads) as f64;
        let cores = thread::available_parallelism().map_or(1, usize::from).min(self.threads);
        let cpu: f64 = stints.iter().map(|stint| (stint.end.cpu - stint.begin.cpu).as_secs_f64()).sum();
        Sample {
            wall: span(&stints).as_secs_f64() * 1e9 * cores as f64 / operations,
            cpu: cpu * 1e9 / operations,
            hits: stints.iter().map(|stint| stint.hits).sum::<usize>() as f64 / operations,
        }
    }
}

/// From the first begin to the last end.
fn span(stints: &[Stint]) -> Duration {
    let begin = stints.iter().map(|stint| stint.begin.wall).min();
    let end = stints.iter().map(|stint| stint.end.wall).max();
    begin.zip(end).map_or(Duration::ZERO, |(begin, end)| end - begin)
}
