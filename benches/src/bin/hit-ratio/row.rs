//! One workload with one capacity.

use std::fmt::Write;

use benches::contender::{Contender, engine_hits};
use benches::policy::{belady, hits};
use benches::trace::Trace;

/// Our engine is also measured with so many threads.
pub(crate) const CROWDS: [usize; 2] = [4, 16];

/// Everybody's hits.
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) capacity: usize,
    reads: usize,
    pub(crate) ceiling: u64,
    /// Of each contender, and how many keys it held in the end.
    pub(crate) all: Vec<(u64, usize)>,
    /// Of our engine in each of [`CROWDS`].
    pub(crate) crowds: [u64; CROWDS.len()],
}

impl Row {
    pub(crate) fn measure(trace: &Trace, size: usize, contenders: &[Contender]) -> Self {
        let capacity = (trace.distinct() * size / 100).max(1);
        let run = |one: &Contender| {
            let mut cache = (one.build)(capacity);
            (hits(cache.as_mut(), &trace.keys), cache.held())
        };
        Self {
            case: format!("{} {size}%", trace.name),
            capacity,
            reads: trace.keys.len(),
            ceiling: belady(&trace.keys, capacity),
            all: contenders.iter().map(run).collect(),
            crowds: CROWDS.map(|threads| engine_hits(capacity, &trace.keys, threads)),
        }
    }

    /// Hits in percent of the reads.
    pub(crate) fn percent(&self, hits: u64) -> f64 {
        100.0 * hits as f64 / self.reads as f64
    }

    pub(crate) fn text(&self) -> String {
        let hits = self.all.iter().map(|(hits, _)| *hits).chain(self.crowds);
        let columns: String = hits.map(|hits| format!("{:>11.2}", self.percent(hits))).collect();
        format!("{:<26}{:>7}{:>8.2}{columns}", self.case, self.capacity, self.percent(self.ceiling))
    }

    pub(crate) fn json(&self, contenders: &[Contender]) -> String {
        let mut everybody = vec![(String::from("belady"), self.ceiling)];
        everybody.extend(contenders.iter().zip(&self.all).map(|(one, (hits, _))| (one.name.into(), *hits)));
        everybody.extend(CROWDS.iter().zip(self.crowds).map(|(threads, hits)| (crowd(*threads), hits)));
        everybody.iter().fold(String::new(), |mut lines, (name, hits)| {
            let percent = self.percent(*hits);
            let _ = writeln!(
                lines,
                r#"{{"suite":"hit-ratio","case":"{} of {}","contender":"{name}","metric":"hit ratio","unit":"%","better":"higher","median":{percent},"min":{percent},"max":{percent},"rounds":1}}"#,
                self.case, self.capacity,
            );
            lines
        })
    }
}

/// What our engine is called with so many threads.
fn crowd(threads: usize) -> String {
    format!("ours ×{threads}")
}

pub(crate) fn heading(contenders: &[Contender]) -> String {
    let names = contenders.iter().map(|one| one.name.to_owned()).chain(CROWDS.map(crowd));
    let columns: String = names.map(|name| format!("{name:>11}")).collect();
    format!("{:<26}{:>7}{:>8}{columns}", "hit %", "keys", "belady")
}
