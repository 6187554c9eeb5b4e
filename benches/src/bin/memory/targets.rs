//! What we are after, and whether we are there.

use super::cell::{By, Cell, Series};
use super::report::threads;
use super::size::{Shape, Size};
use super::storm::Peak;
use super::{Kind, Spread};

/// A figure that should not pass a bound.
#[derive(Debug)]
pub(crate) struct Target {
    what: String,
    bound: f64,
    unit: &'static str,
    measured: Spread,
    /// The same by CPU time, for ratios of times.
    cpu: Option<f64>,
}

impl Target {
    fn is_met(&self) -> bool {
        self.measured.median <= self.bound
    }
}

/// What a time is held against.
#[derive(Clone, Copy, Debug)]
enum Against {
    Quick,
    BestPeer,
}

/// Workload, threads, who of us, against whom, and the largest ratio.
type TimeTarget = (&'static str, usize, &'static str, Against, f64);

use Against::{BestPeer, Quick};

const PLAIN: &str = "cachalot";
const TTL: &str = "cachalot ttl";

pub(crate) const HITS: &str = "hits, u64 → Arc, 10 k keys";
pub(crate) const GET_OR_FILL: &str = "get, insert on a miss, Zipf 0.99, 10 %";
pub(crate) const MIXED: &str = "75/25 read/write, Zipf 0.99, 10 %";
pub(crate) const STRINGS: &str = "hits, String(20) → Arc, 10 k keys";
pub(crate) const HOT_KEY: &str = "one hot key";

const TIMES: [TimeTarget; 18] = [
    (HITS, 1, PLAIN, Quick, 0.85),
    (HITS, 1, TTL, Quick, 0.95),
    (HITS, 2, PLAIN, Quick, 0.65),
    (HITS, 2, TTL, Quick, 0.65),
    (HITS, 8, PLAIN, Quick, 0.65),
    (HITS, 8, TTL, Quick, 0.65),
    (GET_OR_FILL, 1, TTL, BestPeer, 0.85),
    (GET_OR_FILL, 2, TTL, BestPeer, 0.85),
    (GET_OR_FILL, 8, TTL, BestPeer, 0.85),
    (MIXED, 1, TTL, BestPeer, 0.85),
    (MIXED, 2, TTL, BestPeer, 0.9),
    (MIXED, 8, TTL, BestPeer, 0.9),
    (STRINGS, 1, PLAIN, Quick, 0.9),
    (STRINGS, 1, TTL, Quick, 0.9),
    (STRINGS, 2, TTL, Quick, 0.9),
    (STRINGS, 8, TTL, Quick, 0.9),
    (HOT_KEY, 2, TTL, Quick, 0.25),
    (HOT_KEY, 8, TTL, Quick, 0.25),
];

/// Nanoseconds that a deadline may add to a hit of one thread.
const EXPIRY_NS: f64 = 3.0;
const NUMBER_BYTES: f64 = 38.0;
const STRING_BYTES: f64 = 158.0;
const PEAK: f64 = 1.03;

/// The targets of a workload.
pub(crate) fn of_cell(cell: &Cell) -> Vec<Target> {
    let mut targets = Vec::new();
    for (workload, count, name, against, bound) in TIMES {
        if (workload, count) != (cell.workload, cell.threads) {
            continue;
        }
        let other = match against {
            Quick => cell.series("quick_cache"),
            BestPeer => cell.best_peer(),
        };
        if let Some((ours, other)) = cell.series(name).zip(other) {
            targets.push(ratio(cell, ours, other, bound));
        }
    }
    if (cell.workload, cell.threads) == (HITS, 1) {
        targets.extend(deadline(cell));
    }
    targets
}

fn deadline(cell: &Cell) -> Option<Target> {
    let (with, without) = cell.series(TTL).zip(cell.series(PLAIN))?;
    let measured = with.beyond(without, By::Wall);
    let cpu = Some(with.beyond(without, By::Cpu).median);
    let what = String::from("a deadline's cost on a hit, 1 thread");
    Some(Target { what, bound: EXPIRY_NS, unit: "ns", measured, cpu })
}

fn ratio(cell: &Cell, ours: &Series, other: &Series, bound: f64) -> Target {
    let deadline = if ours.name == TTL { ", deadlines" } else { "" };
    Target {
        what: format!("{}{deadline}, {}", cell.workload, threads(cell.threads)),
        bound,
        unit: match other.name {
            "quick_cache" => "× quick_cache",
            "scc" => "× scc",
            "cached" => "× cached",
            "foyer s3fifo" => "× foyer",
            _ => "× best peer",
        },
        measured: ours.over(other, By::Wall),
        cpu: Some(ours.over(other, By::Cpu).median),
    }
}

pub(crate) fn of_sizes(shape: Shape, sizes: &[Size]) -> Vec<Target> {
    let bound = if shape == Shape::Numbers { NUMBER_BYTES } else { STRING_BYTES };
    let ours = sizes.iter().filter(|size| size.kind == Kind::Ours);
    let target = |size: &Size| {
        let deadline = if size.name == TTL { ", deadlines" } else { "" };
        let what = format!("bytes an entry, {}{deadline}", shape.name());
        Target { what, bound, unit: "bytes", measured: Spread::single(size.bytes), cpu: None }
    };
    ours.map(target).collect()
}

pub(crate) fn of_peaks(peaks: &[Peak]) -> Vec<Target> {
    let ours = peaks.iter().filter(|peak| peak.kind == Kind::Ours);
    let target = |peak: &Peak| {
        let deadline = if peak.name == TTL { ", deadlines" } else { "" };
        let what = format!("values alive in a storm of writes{deadline}");
        Target { what, bound: PEAK, unit: "× bound", measured: Spread::single(peak.live), cpu: None }
    };
    ours.map(target).collect()
}

/// The verdicts, missed ones first.
pub(crate) fn print(targets: &mut [Target]) {
    targets.sort_by_key(Target::is_met);
    println!(
        "\n{:<56}{:>8}{:>10}  {:<16}{:<18}{:>8}",
        "target", "at most", "measured", "", "middle half", "by CPU"
    );
    for target in targets.iter() {
        let verdict = if target.is_met() { "met" } else { "MISSED" };
        let (low, high) = target.measured.quartiles;
        let middle = if target.measured.rounds > 1 { format!("{low:.3}–{high:.3}") } else { String::new() };
        let cpu = target.cpu.map_or(String::new(), |cpu| format!("{cpu:.3}"));
        println!(
            "{:<56}{:>8}{:>10.3}  {:<16}{middle:<18}{cpu:>8}  {verdict}",
            target.what, target.bound, target.measured.median, target.unit
        );
    }
    let met = targets.iter().filter(|target| target.is_met()).count();
    println!("{met} of {} targets met", targets.len());
}
