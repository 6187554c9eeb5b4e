//! What the rounds said: a line per contender for people, a row per figure for programs.

use std::fmt::Write;

/// What is measured in a case. Less is better.
#[derive(Clone, PartialEq)]
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
}

/// One contender's values of one figure, in the order of the rounds.
struct Series {
    case: String,
    metric: String,
    unit: &'static str,
    contender: &'static str,
    values: Vec<f64>,
}

/// Everything measured, in the order in which it was first said.
#[derive(Default)]
pub(crate) struct Report {
    all: Vec<Series>,
}

impl Report {
    /// Adds a value of `contender` to the series of `figure`.
    pub(crate) fn add(&mut self, figure: Figure, contender: &'static str, value: f64) {
        let Figure { case, metric, unit } = figure;
        let known =
            |one: &&mut Series| one.case == case && one.metric == metric && one.contender == contender;
        match self.all.iter_mut().find(known) {
            Some(series) => series.values.push(value),
            None => {
                let (metric, values) = (metric.to_owned(), vec![value]);
                self.all.push(Series { case, metric, unit, contender, values });
            }
        }
    }

    /// Adds what everybody's `metric` is to that of `baseline`, round by round.
    pub(crate) fn compare(&mut self, case: &str, metric: &str, baseline: &'static str) {
        let same = |one: &&Series| one.case == case && one.metric == metric;
        let Some(base) = self.all.iter().filter(same).find(|one| one.contender == baseline) else { return };
        let ratios = |one: &Series| Series {
            case: one.case.clone(),
            metric: format!("/ {baseline}"),
            unit: "ratio",
            contender: one.contender,
            values: one.values.iter().zip(&base.values).map(|(ours, theirs)| ours / theirs).collect(),
        };
        let ratios: Vec<_> = self.all.iter().filter(same).map(ratios).collect();
        self.all.extend(ratios);
    }

    /// For each case a line per contender and a column per metric: medians.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for case in firsts(self.all.iter().map(|one| one.case.as_str())) {
            let of_case = || self.all.iter().filter(|one| one.case == case);
            let metrics = firsts(of_case().map(|one| one.metric.as_str()));
            let _ = write!(table, "| {case:<20} |");
            for metric in &metrics {
                let unit = of_case().find(|one| one.metric == *metric).map_or("", |one| one.unit);
                let unit = if unit == "ratio" { String::new() } else { format!(", {unit}") };
                let _ = write!(table, " {metric}{unit} |");
            }
            let _ = writeln!(table, "\n|---|{}", "---:|".repeat(metrics.len()));
            for contender in firsts(of_case().map(|one| one.contender)) {
                let _ = write!(table, "| {contender:<20} |");
                for metric in &metrics {
                    let cell = of_case().find(|one| one.contender == contender && one.metric == *metric);
                    let cell = cell.map_or_else(String::new, |one| figure(spread(&one.values).1));
                    let _ = write!(table, " {cell} |");
                }
                table.push('\n');
            }
            table.push('\n');
        }
        table
    }

    /// A JSON object per line: a series each.
    pub(crate) fn rows(&self) -> String {
        self.all.iter().fold(String::new(), |mut rows, one| {
            let Series { case, metric, unit, contender, values } = one;
            let ((min, median, max), rounds) = (spread(values), values.len());
            let metric = metric.replacen("/ ", "lookup / ", 1);
            let _ = writeln!(
                rows,
                r#"{{"suite":"ring","case":"{case}","contender":"{contender}","metric":"{metric}","unit":"{unit}","better":"lower","median":{median},"min":{min},"max":{max},"rounds":{rounds}}}"#,
            );
            rows
        })
    }
}

/// Each of them once, where it came first.
fn firsts<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    all.fold(Vec::new(), |mut firsts, one| {
        if !firsts.contains(&one) {
            firsts.push(one);
        }
        firsts
    })
}

/// Three digits that matter; more only before the point.
fn figure(value: f64) -> String {
    match value {
        _ if value >= 100.0 || value == 0.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The least, the middle and the greatest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    (sorted[0], (low + high) / 2.0, sorted[sorted.len() - 1])
}
