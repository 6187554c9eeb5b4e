//! What was measured, for people as it comes and as JSON lines for programs.

use std::fmt::Write;

use super::cell::{By, Cell, Series};
use super::expiry::Worst;
use super::size::{Shape, Size};
use super::storm::Peak;
use super::{Kind, Spread};

/// The JSON lines so far, in the form of the project's other reports.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) lines: String,
}

impl Report {
    /// Prints a workload's table: times, and ratios to quick_cache and to the best bounded peer.
    pub(crate) fn cell(&mut self, cell: &Cell) {
        let title = format!("{}, {}", cell.workload, threads(cell.threads));
        let quick = cell.series("quick_cache");
        let best = cell.best_peer().filter(|best| quick.is_none_or(|quick| quick.name != best.name));
        let over_best = best.map_or(String::new(), |best| format!("× {}", best.name));
        println!(
            "\n{title:<41}{:>8}{:>8}{:>7}   {:<24}{:<24}",
            "ns/op", "CPU", "hit %", "× quick_cache", over_best
        );
        for series in &cell.all {
            let time = series.time(By::Wall);
            let cpu = series.time(By::Cpu);
            let (median, hits) = (time.median, series.hit_percent());
            let mut line = format!("  {:<39}{median:>8.1}{:>8.1}{hits:>7.1}", series.name, cpu.median);
            self.row(&title, series.name, "time", "ns/op", time);
            self.row(&title, series.name, "CPU time", "ns/op", cpu);
            self.row(&title, series.name, "hits", "%", Spread::single(series.hit_percent()));
            for other in [quick, best].into_iter().flatten() {
                line += &format!("   {:<21}", ratios(series, other));
                let metric = format!("time / {}", other.name);
                self.row(&title, series.name, &metric, "ratio", series.over(other, By::Wall));
                let metric = format!("CPU time / {}", other.name);
                self.row(&title, series.name, &metric, "ratio", series.over(other, By::Cpu));
            }
            println!("{line}");
        }
    }

    /// Prints what a deadline adds to a hit, ours and theirs.
    pub(crate) fn expiry_cost(&mut self, cell: &Cell) {
        println!("\nwhat a deadline adds to a hit, {}", threads(cell.threads));
        for (with, without) in EXPIRING {
            if let Some((with, without)) = cell.series(with).zip(cell.series(without)) {
                let added = with.beyond(without, By::Wall);
                let (low, high) = added.quartiles;
                println!("  {:<42}{:>+8.1} ns ({low:+.1} to {high:+.1})", without.name, added.median);
                self.row("a deadline's cost", without.name, "time added", "ns", added);
            }
        }
    }

    pub(crate) fn sizes(&mut self, shape: Shape, sizes: &[Size]) {
        println!("\nresident bytes an entry, {:<27}{:>8}{:>18}", shape.name(), "bytes", "held of 1 M, %");
        for size in sizes {
            println!("  {:<49}{:>8.1}{:>18.2}", size.name, size.bytes, 100.0 * size.held);
            self.row(shape.name(), size.name, "resident", "bytes/entry", Spread::single(size.bytes));
            self.row(shape.name(), size.name, "held", "%", Spread::single(100.0 * size.held));
        }
    }

    pub(crate) fn peaks(&mut self, peaks: &[Peak]) {
        println!("\n{:<51}{:>8}{:>18}", "peak over bound, two threads writing 4 KiB", "values", "resident");
        for peak in peaks {
            let resident = peak.resident.unwrap_or(f64::NAN);
            println!("  {:<49}{:>8.3}{resident:>18.3}", peak.name, peak.live);
            self.row("storm", peak.name, "values / bound", "ratio", Spread::single(peak.live));
            self.row("storm", peak.name, "resident / bound", "ratio", Spread::single(resident));
        }
    }

    pub(crate) fn worst(&mut self, all: &[Worst]) {
        println!(
            "\n{:<51}{:>8}{:>10}{:>10}{:>12}{:>12}",
            "inserts after 10 M expiries at once, µs", "mean", "p99.99", "worst", "worst CPU", "M left"
        );
        for worst in all {
            let name = if worst.expired { worst.name } else { "  the same, nothing expired" };
            let [mean, p9999, max, cpu] =
                [worst.mean, worst.p9999, worst.max, worst.max_cpu].map(|ns| ns / 1e3);
            let left = worst.left / 1e6;
            println!("  {name:<49}{mean:>8.2}{p9999:>10.1}{max:>10.1}{cpu:>12.1}{left:>12.2}");
            let case = if worst.expired { "mass expiry" } else { "mass expiry, none expired" };
            for (metric, value) in [("mean", mean), ("p99.99", p9999), ("max", max), ("CPU max", cpu)] {
                self.row(case, worst.name, metric, "µs", Spread::single(value));
            }
        }
    }

    fn row(&mut self, case: &str, contender: &str, metric: &str, unit: &str, spread: Spread) {
        let Spread { median, quartiles: (q1, q3), ends: (min, max), rounds } = spread;
        if !median.is_finite() {
            return;
        }
        let better = if unit == "%" { "higher" } else { "lower" };
        let _ = writeln!(
            self.lines,
            r#"{{"suite":"memory","case":"{case}","contender":"{contender}","metric":"{metric}","unit":"{unit}","better":"{better}","median":{median},"q1":{q1},"q3":{q3},"min":{min},"max":{max},"rounds":{rounds}}}"#,
        );
    }
}

/// Who knows expiry, with and without a deadline on every entry.
pub(crate) const EXPIRING: [(&str, &str); 3] =
    [("cachalot ttl", "cachalot"), ("moka ttl", "moka"), ("cached ttl", "cached")];

/// The median of the ratios and their quartiles; then the same by CPU time, its median alone.
fn ratios(series: &Series, other: &Series) -> String {
    if series.name == other.name {
        return String::new();
    }
    let ratio = series.over(other, By::Wall);
    let (low, high) = ratio.quartiles;
    let digits = if series.kind == Kind::Ours { 3 } else { 2 };
    let cpu = series.over(other, By::Cpu).median;
    format!("{:.digits$} ({low:.2}–{high:.2}) {cpu:.2}", ratio.median)
}

pub(crate) fn threads(threads: usize) -> String {
    if threads == 1 { String::from("1 thread") } else { format!("{threads} threads") }
}
