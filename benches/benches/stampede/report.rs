//! What the rounds said: a column per contender for people, a row per figure for programs.

use std::fmt::Write;

use benches::{Spread, number};

/// One contender's values of one figure, in the order of the rounds.
pub(crate) struct Series {
    pub(crate) case: &'static str,
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) better: &'static str,
    pub(crate) contender: &'static str,
    pub(crate) values: Vec<f64>,
}

/// Everything measured, in the order in which it was first said.
#[derive(Default)]
pub(crate) struct Report {
    all: Vec<Series>,
}

impl Report {
    /// Adds a value of `contender` to the series of `figure`.
    pub(crate) fn add(&mut self, figure: Figure, contender: &'static str, value: f64) {
        let Figure { case, metric, unit, better } = figure;
        let known =
            |one: &&mut Series| one.case == case && one.metric == metric && one.contender == contender;
        match self.all.iter_mut().find(known) {
            Some(series) => series.values.push(value),
            None => {
                let (metric, values) = (metric.to_owned(), vec![value]);
                self.all.push(Series { case, metric, unit, better, contender, values });
            }
        }
    }

    /// Adds what everybody's `figure` is to that of `baseline`, round by round.
    pub(crate) fn compare(&mut self, figure: Figure, baseline: &'static str) {
        let of = |contender: &str| {
            let wanted = move |one: &&Series| {
                one.case == figure.case && one.metric == figure.metric && one.contender == contender
            };
            self.all.iter().find(wanted)
        };
        let Some(base) = of(baseline) else { return };
        let ratios = |one: &Series| Series {
            case: one.case,
            metric: format!("{} / {baseline}", one.metric),
            unit: "ratio",
            better: "lower",
            contender: one.contender,
            values: one.values.iter().zip(&base.values).map(|(ours, theirs)| ours / theirs).collect(),
        };
        let same = |one: &&Series| one.case == figure.case && one.metric == figure.metric;
        let ratios: Vec<_> = self.all.iter().filter(same).map(ratios).collect();
        self.all.extend(ratios);
    }

    /// A line per figure, a column per contender: medians.
    pub(crate) fn table(&self) -> String {
        let mut contenders: Vec<&str> = Vec::new();
        let mut figures: Vec<(&str, &str, &str)> = Vec::new();
        for one in &self.all {
            if !contenders.contains(&one.contender) {
                contenders.push(one.contender);
            }
            let figure = (one.case, one.metric.as_str(), one.unit);
            if !figures.contains(&figure) {
                figures.push(figure);
            }
        }
        let mut table = format!("| {:<52} |", "");
        contenders.iter().for_each(|name| {
            let _ = write!(table, " {name:>13} |");
        });
        let _ = write!(table, "\n|---|");
        contenders.iter().for_each(|_| table.push_str("---:|"));
        for (case, metric, unit) in figures {
            let unit = if unit == "ratio" { String::new() } else { format!(", {unit}") };
            let _ = write!(table, "\n| {:<52} |", format!("{case}: {metric}{unit}"));
            for contender in &contenders {
                let wanted =
                    |one: &&Series| one.case == case && one.metric == metric && one.contender == *contender;
                let median =
                    self.all.iter().find(wanted).map(|one| Spread::of(one.values.iter().copied()).median);
                let _ = write!(table, " {:>13} |", median.map_or_else(String::new, number));
            }
        }
        table.push('\n');
        table
    }

    /// A JSON object per line: a series each.
    pub(crate) fn rows(&self) -> String {
        self.all.iter().fold(String::new(), |mut rows, one| {
            let Series { case, metric, unit, better, contender, values } = one;
            let Spread { median, ends: (min, max), .. } = Spread::of(values.iter().copied());
            let rounds = values.len();
            let _ = writeln!(
                rows,
                r#"{{"suite":"stampede","case":"{case}","contender":"{contender}","metric":"{metric}","unit":"{unit}","better":"{better}","median":{median},"min":{min},"max":{max},"rounds":{rounds}}}"#,
            );
            rows
        })
    }
}

/// What is measured in a case.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) case: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: &'static str,
}
