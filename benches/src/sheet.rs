//! What the rounds of a suite said: a line per contender for people, a row per figure for programs.

use std::fmt::Write;
use std::{fs, io};

use crate::{Options, Spread, number};

/// What is measured, and what it is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Its name within a case.
    pub metric: &'static str,
    /// What it is counted in; `ratio` of what has been compared.
    pub unit: &'static str,
    /// `lower` or `higher`.
    pub better: &'static str,
    /// No more than this.
    pub target: Option<f64>,
}

impl Figure {
    /// Less is better.
    pub const fn new(metric: &'static str, unit: &'static str) -> Self {
        Self { metric, unit, better: "lower", target: None }
    }

    /// More is better.
    pub const fn higher(metric: &'static str, unit: &'static str) -> Self {
        Self { better: "higher", ..Self::new(metric, unit) }
    }

    /// What is to be no more than `target`.
    #[must_use]
    pub const fn at_most(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }
}

/// One contender's values of one figure, in the order of the rounds.
struct Series {
    case: String,
    contender: String,
    figure: Figure,
    values: Vec<f64>,
}

/// Everything that a suite has measured, in the order in which it was first said.
pub struct Sheet {
    suite: &'static str,
    all: Vec<Series>,
}

impl Sheet {
    /// One of `suite` with nothing on it.
    pub fn new(suite: &'static str) -> Self {
        Self { suite, all: Vec::new() }
    }

    /// Adds a value of `contender`.
    pub fn add(&mut self, case: &str, contender: &str, figure: Figure, value: f64) {
        let same = |one: &&mut Series| {
            one.case == case && one.contender == contender && one.figure.metric == figure.metric
        };
        match self.all.iter_mut().find(same) {
            Some(series) => series.values.push(value),
            None => {
                let (case, contender) = (case.to_owned(), contender.to_owned());
                self.all.push(Series { case, contender, figure, values: vec![value] });
            }
        }
    }

    /// Adds what the others' `metric` is to that of `baseline`, round by round, as `ratio`.
    pub fn compare(&mut self, case: &str, metric: &str, baseline: &str, ratio: Figure) {
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

    /// Prints the table, and writes the rows where `options` says.
    ///
    /// # Errors
    /// If the file cannot be written.
    #[allow(clippy::print_stdout, reason = "what a bench is for")]
    pub fn finish(&self, options: &Options) -> io::Result<()> {
        print!("\n{}", self.table());
        match &options.report {
            Some(file) => fs::write(file, self.rows()),
            None => Ok(()),
        }
    }

    /// For each case a line per contender and a column per figure: medians.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for case in firsts(self.all.iter().map(|one| one.case.as_str())) {
            let of_case: Vec<&Series> = self.all.iter().filter(|one| one.case == case).collect();
            let figures = firsts(of_case.iter().map(|one| one.figure));
            let heads: String = figures.iter().map(|figure| format!(" {} |", head(figure))).collect();
            let _ = writeln!(table, "| {case} |{heads}\n|---|{}", "---:|".repeat(figures.len()));
            for contender in firsts(of_case.iter().map(|one| one.contender.as_str())) {
                let cell = |figure: &Figure| {
                    let series =
                        of_case.iter().find(|one| one.contender == contender && one.figure == *figure);
                    series
                        .map_or_else(String::new, |one| number(Spread::of(one.values.iter().copied()).median))
                };
                let cells: String = figures.iter().map(|figure| format!(" {} |", cell(figure))).collect();
                let _ = writeln!(table, "| {contender} |{cells}");
            }
            table.push('\n');
        }
        table
    }

    /// A JSON object per line: a series each.
    pub fn rows(&self) -> String {
        self.all.iter().fold(String::new(), |mut rows, one| {
            let Series { figure: Figure { metric, unit, better, target }, case, contender, values } = one;
            let Spread { median, ends: (min, max), rounds, .. } = Spread::of(values.iter().copied());
            let target = target.map_or(String::new(), |most| format!(r#","target":{most}"#));
            let suite = self.suite;
            let _ = writeln!(
                rows,
                r#"{{"suite":"{suite}","case":"{case}","contender":"{contender}","metric":"{metric}","unit":"{unit}","better":"{better}","median":{median},"min":{min},"max":{max},"rounds":{rounds}{target}}}"#,
            );
            rows
        })
    }
}

/// What stands above the column of a figure.
fn head(Figure { metric, unit, target, .. }: &Figure) -> String {
    let unit = if *unit == "ratio" { String::new() } else { format!(", {unit}") };
    let target = target.map_or(String::new(), |most| format!(" (<= {most})"));
    format!("{metric}{unit}{target}")
}

/// Each of them once, where it came first.
fn firsts<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut firsts, one| {
        if !firsts.contains(&one) {
            firsts.push(one);
        }
        firsts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Figure = Figure::new("time", "ns");

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new("demo");
        for (ours, theirs) in [(1.0, 4.0), (3.0, 4.0), (2.0, 2.0)] {
            sheet.add("hit", "ours", TIME, ours);
            sheet.add("hit", "theirs", TIME, theirs);
        }
        sheet.compare("hit", "time", "theirs", Figure::new("time / theirs", "ratio").at_most(0.5));
        sheet
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_have_a_target() {
        let table = sheet().table();
        assert!(table.contains("| hit | time, ns | time / theirs (<= 0.5) |\n"), "{table}");
        assert!(table.contains("| ours | 2 | 0.75 |\n| theirs | 4 |  |\n"), "{table}");
    }

    #[test]
    fn a_row_names_its_suite_and_its_spread() {
        let rows = sheet().rows();
        assert_eq!(rows.lines().count(), 3);
        let last = r#""metric":"time / theirs","unit":"ratio","better":"lower","median":0.75,"min":0.25,"max":1,"rounds":3,"target":0.5}"#;
        assert!(rows.starts_with(r#"{"suite":"demo","case":"hit","contender":"ours""#), "{rows}");
        assert!(rows.trim_end().ends_with(last), "{rows}");
    }
}
