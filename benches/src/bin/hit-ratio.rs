//! Hit ratios of policies and caches, workload by workload: `cargo xtask bench hit-ratio`.
//!
//! Prints a table, and with `--report FILE` writes the same as JSON lines, a row each.

// A command-line tool talks to the person who runs it.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::contender::{self, Contender};
use benches::policy::{belady, hits};
use benches::trace::{self, Trace};

/// Capacities in percent of the different keys of a workload.
const SIZES: [usize; 3] = [1, 5, 10];

/// Of a longer trace, only so many reads count.
const READS_MAX: usize = 1_000_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let report = report_file()?;
    let contenders = contender::all();
    let mut table = Table::new(&contenders);
    let mut rows = String::new();
    for (group, traces) in workloads()? {
        for trace in traces {
            for size in SIZES {
                let row = measure(&trace, size, &contenders);
                println!("{}", table.add(group, &row));
                rows += &row.json(&contenders);
            }
        }
    }
    println!("\n{}", table.means());
    match report {
        Some(file) => fs::write(file, rows),
        None => Ok(()),
    }
}

fn report_file() -> io::Result<Option<PathBuf>> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next(), args.next()) {
        (None, ..) => Ok(None),
        (Some("--report"), Some(file), None) => Ok(Some(file.into())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: hit-ratio [--report FILE]")),
    }
}

/// The generated workloads and, if there are any, those in files; shortened.
fn workloads() -> io::Result<Vec<(&'static str, Vec<Trace>)>> {
    let mut groups = vec![("generated", trace::generated())];
    #[cfg(feature = "traces")]
    if let Some(folder) = trace::folder() {
        groups.push(("real", trace::files(&folder)?));
    }
    for trace in groups.iter_mut().flat_map(|(_, traces)| traces) {
        trace.keys.truncate(READS_MAX);
    }
    Ok(groups)
}

/// Hits of everybody on one workload with one capacity.
struct Row {
    case: String,
    capacity: usize,
    reads: usize,
    ceiling: u64,
    hits: Vec<u64>,
}

fn measure(trace: &Trace, size: usize, contenders: &[Contender]) -> Row {
    let capacity = (trace.distinct() * size / 100).max(1);
    Row {
        case: format!("{} {size}%", trace.name),
        capacity,
        reads: trace.keys.len(),
        ceiling: belady(&trace.keys, capacity),
        hits: contenders.iter().map(|one| hits((one.build)(capacity).as_mut(), &trace.keys)).collect(),
    }
}

impl Row {
    fn percent(&self, hits: u64) -> f64 {
        100.0 * hits as f64 / self.reads as f64
    }

    fn json(&self, contenders: &[Contender]) -> String {
        let everybody = [("belady", self.ceiling)].into_iter();
        let everybody = everybody.chain(contenders.iter().map(|one| one.name).zip(self.hits.iter().copied()));
        everybody.fold(String::new(), |mut rows, (name, hits)| {
            let percent = self.percent(hits);
            let _ = writeln!(
                rows,
                r#"{{"suite":"hit-ratio","case":"{} of {}","contender":"{name}","metric":"hit ratio","unit":"%","better":"higher","median":{percent},"min":{percent},"max":{percent},"rounds":1}}"#,
                self.case, self.capacity,
            );
            rows
        })
    }
}

/// What is printed, and the shares of the ceiling behind the means.
struct Table {
    heading: String,
    names: Vec<&'static str>,
    /// Per group and row, each contender's hits over the ceiling's.
    shares: Vec<(&'static str, Vec<f64>)>,
}

impl Table {
    fn new(contenders: &[Contender]) -> Self {
        let names: Vec<_> = contenders.iter().map(|one| one.name).collect();
        let columns: String = names.iter().map(|name| format!("{name:>12}")).collect();
        let heading = format!("{:<26}{:>8}{:>9}{columns}", "hit %", "keys", "belady");
        Self { heading, names, shares: Vec::new() }
    }

    /// The line of a row, under a heading if it is the first.
    fn add(&mut self, group: &'static str, row: &Row) -> String {
        let mut line = String::new();
        if self.shares.is_empty() {
            line = format!("{}\n", self.heading);
        }
        let columns: String = row.hits.iter().map(|&hits| format!("{:>12.2}", row.percent(hits))).collect();
        let _ = write!(line, "{:<26}{:>8}{:>9.2}{columns}", row.case, row.capacity, row.percent(row.ceiling));
        let shares = row.hits.iter().map(|&hits| hits as f64 / row.ceiling.max(1) as f64);
        self.shares.push((group, shares.collect()));
        line
    }

    /// Each contender's mean share of the ceiling in a group.
    fn means(&self) -> String {
        let mut lines = format!("{:<43}{}", "mean share of belady", &self.heading[43..]);
        for group in ["generated", "real"] {
            let rows: Vec<_> = self.shares.iter().filter(|(of, _)| *of == group).collect();
            if rows.is_empty() {
                continue;
            }
            let mean = |at: usize| rows.iter().map(|(_, shares)| shares[at]).sum::<f64>() / rows.len() as f64;
            let columns: String = (0..self.names.len()).map(|at| format!("{:>12.3}", mean(at))).collect();
            let _ = write!(lines, "\n{group:<43}{columns}");
        }
        lines
    }
}
