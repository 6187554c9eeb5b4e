//! What a change of the nodes would do, by each algorithm: how even the shares are before and after, and how many
//! keys move. Prints a table and writes a picture.
//!
//! ```text
//! cargo run --example ring-plan -- 10.0.0.1=2 10.0.0.2 10.0.0.3 +10.0.0.4 -10.0.0.2 10.0.0.3:=5 --svg plan.svg
//! ```
//!
//! `NAME` or `NAME=WEIGHT` is a node, `+NAME` or `+NAME=WEIGHT` joins, `-NAME` leaves, `NAME:=WEIGHT` changes its weight.

mod plan;
mod svg;

use std::path::PathBuf;
use std::{env, error, fs};

use cachalot_ring::{Jump, Ketama, Maglev, Md5Ring, Node, Placement, Rendezvous, RingError, SlotRing};

use plan::{Outcome, Plan};

type Built = Result<Box<dyn Placement>, RingError>;
type Build = fn(Vec<Node>) -> Built;

/// A name, and what builds it of nodes.
const ALGORITHMS: [(&str, Build); 6] = [
    ("slot ring", |nodes| Ok(Box::new(SlotRing::new(nodes)?))),
    ("ketama", |nodes| Ok(Box::new(Ketama::new(nodes)?))),
    ("md5 ring", |nodes| Ok(Box::new(Md5Ring::new(nodes)?))),
    ("rendezvous", |nodes| Ok(Box::new(Rendezvous::new(nodes)?))),
    ("jump", |nodes| Ok(Box::new(Jump::new(nodes)?))),
    ("maglev", |nodes| Ok(Box::new(Maglev::new(nodes)?))),
];

/// Without arguments: one of eight servers dies, and it is not the last one.
const EXAMPLE: [&str; 9] =
    ["cache-1", "cache-2", "cache-3", "cache-4", "cache-5", "cache-6", "cache-7", "cache-8", "-cache-4"];

fn main() -> Result<(), Box<dyn error::Error>> {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let svg = match words.iter().position(|word| word == "--svg") {
        Some(at) if at + 1 < words.len() => words.drain(at..at + 2).nth(1).map(PathBuf::from),
        Some(_) => return Err("--svg needs a file".into()),
        None => None,
    };
    if words.is_empty() {
        words = EXAMPLE.map(str::to_owned).to_vec();
        println!("ring-plan {}\n", words.join(" "));
    }
    let plan = Plan::parse(&words)?;
    let outcomes: Vec<Outcome> = ALGORITHMS.iter().map(|(name, build)| plan.play(name, *build)).collect();
    print!("{}", table(&plan, &outcomes));

    let file = svg.unwrap_or_else(|| env::temp_dir().join("ring-plan.svg"));
    fs::write(&file, svg::picture(&plan, &outcomes))?;
    println!("\npicture: {}", file.display());
    Ok(())
}

fn table(plan: &Plan, outcomes: &[Outcome]) -> String {
    let ideal = format!("{:.1} %", 100.0 * plan.ideal());
    let mut table = format!(
        "{:<12} {:>12} {:>12} {:>12} {:>18}   at best {ideal} move\n",
        "", "peak before", "peak after", "moved", "between others"
    );
    for outcome in outcomes {
        table += &match &outcome.result {
            Ok(result) => format!(
                "{:<12} {:>12.3} {:>12.3} {:>10.1} % {:>16.1} %\n",
                outcome.name,
                result.peak_before,
                result.peak_after,
                100.0 * result.moved,
                100.0 * result.between_others
            ),
            Err(error) => format!("{:<12} not possible: {error}\n", outcome.name),
        };
    }
    table += "\npeak: the fullest node's keys over its part of the weights. between others: moved though neither\nend of the \
              move has come, gone or changed its weight.\n";
    table
}
