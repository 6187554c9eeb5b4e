//! The shares of every node by every algorithm, before and after, as bars.

use std::fmt::{Arguments, Write};

use crate::plan::{Figures, Outcome, Plan, ideal_share};

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 110.0;
const ROW: f64 = 130.0;
const BARS: f64 = 84.0;
const BEFORE: &str = "#b0b7bf";
const AFTER: &str = "#00798c";

pub(crate) fn picture(plan: &Plan, outcomes: &[Outcome]) -> String {
    let names = names(plan);
    let height = 80.0 + ROW * outcomes.len() as f64;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' \
         font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n"
    );
    text(&mut svg, (MARGIN, 24.0), "start", "keys of each node, ");
    legend(&mut svg, MARGIN + 115.0, BEFORE, "before");
    legend(&mut svg, MARGIN + 190.0, AFTER, "after");
    text(&mut svg, (MARGIN + 250.0, 24.0), "start", "line: its part of the weights");
    let highest = outcomes
        .iter()
        .filter_map(|outcome| outcome.result.as_ref().ok())
        .flat_map(|figures| figures.before.iter().chain(&figures.after).copied());
    let highest = highest.fold(f64::MIN_POSITIVE, f64::max);
    for (row, outcome) in outcomes.iter().enumerate() {
        let base = 50.0 + ROW * row as f64 + BARS;
        text(&mut svg, (MARGIN - 12.0, base - BARS / 2.0), "end", outcome.name);
        match &outcome.result {
            Ok(figures) => bars(&mut svg, plan, &names, figures, base, highest),
            Err(error) => {
                text(&mut svg, (MARGIN, base - BARS / 2.0), "start", &format!("not possible: {error}"))
            }
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Every node there is before or after, once.
fn names(plan: &Plan) -> Vec<&str> {
    let new = plan.after.iter().filter(|node| plan.before.iter().all(|known| known.name() != node.name()));
    plan.before.iter().chain(new).map(|node| node.name()).collect()
}

fn bars(svg: &mut String, plan: &Plan, names: &[&str], figures: &Figures, base: f64, highest: f64) {
    let step = (WIDTH - MARGIN - 20.0) / names.len() as f64;
    let moved = 100.0 * figures.moved;
    text(svg, (MARGIN - 12.0, base - BARS / 2.0 + 16.0), "end", &format!("moved {moved:.1} %"));
    for (at, name) in names.iter().enumerate() {
        let left = MARGIN + step * at as f64;
        let sides = [(&plan.before, &figures.before, BEFORE), (&plan.after, &figures.after, AFTER)];
        for (side, (nodes, owned, colour)) in sides.into_iter().enumerate() {
            let Some(index) = nodes.iter().position(|node| node.name() == *name) else { continue };
            let x = left + step * (0.1 + 0.4 * side as f64);
            let (high, ideal) =
                (BARS * owned[index] / highest, base - BARS * ideal_share(nodes, name) / highest);
            let (top, width, percent) = (base - high, step * 0.36, 100.0 * owned[index]);
            push(
                svg,
                format_args!(
                    "<rect x='{x:.1}' y='{top:.1}' width='{width:.1}' height='{high:.1}' fill='{colour}'><title>{}: \
                 {percent:.2} %</title></rect>",
                    escaped(name)
                ),
            );
            let end = x + width;
            push(
                svg,
                format_args!("<path d='M{x:.1} {ideal:.1}H{end:.1}' stroke='#d1495b' stroke-width='2'/>"),
            );
        }
        if step > 40.0 {
            text(svg, (left + step / 2.0, base + 15.0), "middle", name);
        }
    }
}

fn legend(svg: &mut String, x: f64, colour: &str, word: &str) {
    push(svg, format_args!("<rect x='{x}' y='13' width='12' height='12' fill='{colour}'/>"));
    text(svg, (x + 17.0, 24.0), "start", word);
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let ((x, y), words) = (at, escaped(words));
    push(svg, format_args!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{words}</text>"));
}

/// Names are the user's: they may hold anything.
fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn push(svg: &mut String, element: Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "{element}");
}
