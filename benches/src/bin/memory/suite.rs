//! The whole of it, in order.

use std::io::Result;
use std::path::PathBuf;

use super::targets::{self, GET_OR_FILL, HITS, HOT_KEY, MIXED, STRINGS};
use super::workload::Popular;
use super::{
    Cell, Data, GetOrFill, Hits, HotKey, Key, Mixed, Report, Workload, expiry, measure, size, storm,
};
use benches::HOT_KEYS;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How often each contender of a workload is measured.
    pub(crate) rounds: usize,
    /// Only workloads and figures whose name contains this; all if empty.
    pub(crate) only: String,
    /// Where to write a JSON line a figure.
    pub(crate) report: Option<PathBuf>,
}

/// Measures everybody in everything, and prints tables and verdicts. Takes about nine minutes.
///
/// # Errors
/// If a process cannot be started or fails, or the report cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut suite = Suite { options, report: Report::default(), targets: Vec::new() };
    suite.times();
    suite.processes()?;
    targets::print(&mut suite.targets);
    match &options.report {
        Some(file) => std::fs::write(file, &suite.report.lines),
        None => Ok(()),
    }
}

/// Measures one contender in this process, for a suite that runs in another. Prints numbers only.
///
/// # Panics
/// If the contender cannot be measured.
pub(crate) fn child(task: &[String]) {
    let task: Vec<&str> = task.iter().map(String::as_str).collect();
    let numbers = match task[..] {
        ["size", shape, name] => size::child(shape, name),
        ["storm", name] => storm::child(name),
        ["expiry", name, when] => expiry::child(name, when == "expired"),
        _ => panic!("no such measurement: {task:?}"),
    };
    let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
    println!("{}", numbers.join(" "));
}

struct Suite<'a> {
    options: &'a Options,
    report: Report,
    targets: Vec<targets::Target>,
}

impl Suite<'_> {
    fn times(&mut self) {
        self.workload(HITS, || Hits::of(HOT_KEYS as usize, |at| at), &[1, 2, 8]);
        // Drawing is dear: once for both.
        let mut popular = None;
        let mut draws = || popular.get_or_insert_with(Popular::new).clone();
        self.workload(GET_OR_FILL, || GetOrFill(draws()), &[1, 2, 8]);
        self.workload(MIXED, || Mixed(draws()), &[1, 2, 8]);
        self.workload(STRINGS, || Hits::of(HOT_KEYS as usize, |at| format!("{at:020}")), &[1, 2, 8]);
        self.workload(HOT_KEY, || HotKey, &[2, 8]);
    }

    fn workload<K: Key, V: Data, W: Workload<K, V>>(
        &mut self,
        name: &'static str,
        build: impl FnOnce() -> W,
        threads: &[usize],
    ) {
        if !self.is_wanted(name) {
            return;
        }
        let workload = build();
        for &threads in threads {
            let cell = measure(name, &workload, threads, self.options.rounds);
            self.tell(&cell);
        }
    }

    fn tell(&mut self, cell: &Cell) {
        self.report.cell(cell);
        if cell.workload == HITS {
            self.report.expiry_cost(cell);
        }
        self.targets.extend(targets::of_cell(cell));
    }

    fn processes(&mut self) -> Result<()> {
        if self.is_wanted("bytes") {
            for shape in size::Shape::ALL {
                let sizes = size::measure(shape)?;
                self.report.sizes(shape, &sizes);
                self.targets.extend(targets::of_sizes(shape, &sizes));
            }
        }
        if self.is_wanted("storm") {
            let peaks = storm::measure()?;
            self.report.peaks(&peaks);
            self.targets.extend(targets::of_peaks(&peaks));
        }
        if self.is_wanted("expiry") {
            self.report.worst(&expiry::measure()?);
        }
        Ok(())
    }

    fn is_wanted(&self, name: &str) -> bool {
        name.contains(&self.options.only)
    }
}
