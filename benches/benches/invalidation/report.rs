//! What the rounds said: a line per figure for people, a row per figure for programs.

use std::fmt::Write;

use benches::{Spread, number};

/// One contender's values of one figure, in the order of the rounds.
struct Series {
    figure: Figure,
    case: String,
    contender: String,
    values: Vec<f64>,
}

/// What is measured, and what it is to be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    /// No more than this.
    pub(crate) target: Option<f64>,
}

impl Figure {
    pub(crate) const fn new(metric: &'static str, unit: &'static str) -> Self {
        Self { metric, unit, target: None }
    }

    pub(crate) const fn at_most(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }
}

/// Everything measured, in the order in which it was first said.
#[derive(Default)]
pub(crate) struct Report {
    all: Vec<Series>,
}

impl Report {
    /// Adds a value of `contender`; less is better.
    pub(crate) fn add(&mut self, case: &str, contender: &str, figure: Figure, value: f64) {
        let same = |one: &&mut Series| {
            one.case == case && one.contender == contender && one.figure.metric == figure.metric
        };
        match self.all.iter_mut().find(same) {
            Some(series) => series.values.push(value),
            None => self.all.push(Series {
                figure,
                case: case.to_owned(),
                contender: contender.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// Adds what everybody's `metric` is to that of `baseline`, round by round, as `ratio`.
    pub(crate) fn compare(&mut self, case: &str, metric: &str, baseline: &str, ratio: Figure) {
        let all = || self.all.iter().filter(|one| one.case == case && one.figure.metric == metric);
        let Some(base) = all().find(|one| one.contender == baseline) else { return };
        let over = |one: &Series| Series {
            figure: ratio,
            case: one.case.clone(),
            contender: one.contender.clone(),
            values: one.values.iter().zip(&base.values).map(|(one, base)| one / base).collect(),
        };
        let ratios: Vec<_> = all().filter(|one| one.contender != baseline).map(over).collect();
        self.all.extend(ratios);
    }

    /// A line per figure, under its case: the median and the ends, and what it was to be.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let mut cases: Vec<&str> = self.all.iter().map(|one| one.case.as_str()).collect();
        cases.dedup();
        let mut said: Vec<&str> = Vec::new();
        for case in cases {
            if said.contains(&case) {
                continue;
            }
            said.push(case);
            let _ = writeln!(table, "{case:<62} {:>10} {:>10} {:>10}  target", "median", "min", "max");
            for one in self.all.iter().filter(|one| one.case == case) {
                let Spread { median, ends: (min, max), .. } = Spread::of(one.values.iter().copied());
                let name = format!("{}: {}, {}", one.contender, one.figure.metric, one.figure.unit);
                let [min, median, max] = [min, median, max].map(number);
                let _ = write!(table, "  {name:<60} {median:>10} {min:>10} {max:>10}");
                let target = one.figure.target.map_or(String::new(), |most| format!("  <= {most}"));
                let _ = writeln!(table, "{target}");
            }
        }
        table
    }

    /// A JSON object per line: a series each.
    pub(crate) fn rows(&self) -> String {
        self.all.iter().fold(String::new(), |mut rows, one| {
            let Series { figure: Figure { metric, unit, target }, case, contender, values } = one;
            let Spread { median, ends: (min, max), .. } = Spread::of(values.iter().copied());
            let (rounds, target) =
                (values.len(), target.map_or(String::new(), |most| format!(r#","target":{most}"#)));
            let _ = writeln!(
                rows,
                r#"{{"suite":"invalidation","case":"{case}","contender":"{contender}","metric":"{metric}","unit":"{unit}","better":"lower","median":{median},"min":{min},"max":{max},"rounds":{rounds}{target}}}"#,
            );
            rows
        })
    }
}
