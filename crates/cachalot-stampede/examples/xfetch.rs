//! Plots how often a key is refreshed in one cycle of its TTL, against how often it is read, if nothing but the
//! draw keeps its readers apart: by XFetch, by the same formula without its logarithm, and without early refresh.
//!
//! `cargo run --example xfetch -- plot.svg`, or without a path to the standard output.

use std::fmt::Write;
use std::time::Duration;

use cachalot_core::Entropy;
use cachalot_stampede::should_refresh;

/// Reads during one load, which here takes a second.
const RATES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
const CYCLES: u32 = 200;

type Formula = fn(Duration, f64) -> bool;

const FORMULAS: [(&str, &str, Formula); 3] = [
    ("no early refresh", "#888888", |_, _| false),
    ("uniform draw, no logarithm", "#d1495b", |remaining, u| u >= remaining.as_secs_f64()),
    ("XFetch, beta 1", "#00798c", |remaining, u| should_refresh(remaining, Duration::from_secs(1), 1.0, u)),
];

fn main() -> std::io::Result<()> {
    let curves = FORMULAS.map(|(name, colour, formula)| {
        let points = RATES.map(|rate| (rate, refreshes_a_cycle(formula, rate)));
        Curve { name, colour, points }
    });
    let svg = plot(&curves);
    match std::env::args_os().nth(1) {
        Some(path) => std::fs::write(path, svg),
        None => {
            println!("{svg}");
            Ok(())
        }
    }
}

/// The mean number of refreshes that begin before the first of them has ended. Reads come at random; an expired
/// key is always refreshed.
fn refreshes_a_cycle(formula: Formula, rate: f64) -> f64 {
    let entropy = Entropy::seeded(7);
    let mut refreshes = 0;
    for _ in 0..CYCLES {
        // Earlier than this XFetch begins once in 10,000 cycles.
        let mut remaining = 9.0 + rate.ln();
        let mut first_ends = None;
        while first_ends.is_none_or(|end| remaining > end) {
            remaining += entropy.draw_unit().ln() / rate;
            let left = Duration::from_secs_f64(remaining.max(0.0));
            let counts = first_ends.is_none_or(|end| remaining > end);
            if counts && (left.is_zero() || formula(left, entropy.draw_unit())) {
                refreshes += 1;
                first_ends.get_or_insert(remaining - 1.0);
            }
        }
    }
    f64::from(refreshes) / f64::from(CYCLES)
}

struct Curve {
    name: &'static str,
    colour: &'static str,
    points: [(f64, f64); RATES.len()],
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 60.0;

/// Both axes are logarithmic, from 1 to 1000.
fn plot(curves: &[Curve]) -> String {
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' \
         font-size='13'>\n<rect width='100%' height='100%' fill='white'/>\n"
    );
    for decade in [1.0, 10.0, 100.0, 1000.0] {
        let (x, y) = (across(decade), up(decade));
        line(&mut svg, (x, up(1.0)), (x, up(1000.0)));
        line(&mut svg, (across(1.0), y), (across(1000.0), y));
        text(&mut svg, (x, up(1.0) + 20.0), "middle", "black", &decade.to_string());
        text(&mut svg, (across(1.0) - 8.0, y + 4.0), "end", "black", &decade.to_string());
    }
    text(&mut svg, (WIDTH / 2.0, HEIGHT - 14.0), "middle", "black", "reads during one load");
    text(&mut svg, (MARGIN, MARGIN - 22.0), "start", "black", "refreshes in one cycle of the TTL");
    for (row, curve) in curves.iter().enumerate() {
        draw(&mut svg, curve);
        let at = (across(1.0) + 16.0, up(1000.0) + 24.0 + 20.0 * row as f64);
        text(&mut svg, at, "start", curve.colour, curve.name);
    }
    svg.push_str("</svg>");
    svg
}

fn across(rate: f64) -> f64 {
    MARGIN + rate.log10() / 3.0 * (WIDTH - 2.0 * MARGIN)
}

fn up(refreshes: f64) -> f64 {
    HEIGHT - MARGIN - refreshes.max(1.0).log10() / 3.0 * (HEIGHT - 2.0 * MARGIN)
}

fn draw(svg: &mut String, curve: &Curve) {
    let points: Vec<_> =
        curve.points.iter().map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(*y))).collect();
    let (points, colour) = (points.join(" "), curve.colour);
    push(svg, format_args!("<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'/>"));
    for (rate, refreshes) in &curve.points {
        let (x, y) = (across(*rate), up(*refreshes));
        push(
            svg,
            format_args!(
                "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'><title>{rate} reads: {refreshes:.1} \
                 refreshes</title></circle>"
            ),
        );
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    push(svg, format_args!("<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' stroke='#dddddd'/>"));
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, colour: &str, words: &str) {
    let (x, y) = at;
    push(
        svg,
        format_args!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}' fill='{colour}'>{words}</text>"),
    );
}

fn push(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "{element}");
}
