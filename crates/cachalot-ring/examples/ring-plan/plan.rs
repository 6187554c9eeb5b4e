//! Nodes before and after a change, and what an algorithm makes of it.

use std::error::Error;

use cachalot_ring::{Node, Placement};

use crate::Build;

/// So many keys are placed.
const KEYS: u32 = 200_000;

pub(crate) struct Plan {
    pub(crate) before: Vec<Node>,
    pub(crate) after: Vec<Node>,
}

pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) result: Result<Figures, String>,
}

pub(crate) struct Figures {
    /// The part of the keys that each node has.
    pub(crate) before: Vec<f64>,
    pub(crate) after: Vec<f64>,
    pub(crate) peak_before: f64,
    pub(crate) peak_after: f64,
    pub(crate) moved: f64,
    pub(crate) between_others: f64,
}

impl Plan {
    pub(crate) fn parse(words: &[String]) -> Result<Self, Box<dyn Error>> {
        let is_change = |word: &&String| word.starts_with(['+', '-']) || word.contains(":=");
        let (changes, nodes): (Vec<_>, Vec<_>) = words.iter().partition(is_change);
        let before = nodes.into_iter().map(|word| node(word)).collect::<Result<Vec<_>, _>>()?;
        let mut after = before.clone();
        for change in changes {
            let find = |name: &str| {
                let at = before.iter().position(|node| node.name() == name);
                at.map(|at| before[at].name()).ok_or_else(|| format!("no node {name:?} to change"))
            };
            if let Some(new) = change.strip_prefix('+') {
                after.push(node(new)?);
            } else if let Some(name) = change.strip_prefix('-') {
                let gone = find(name)?;
                after.retain(|node| node.name() != gone);
            } else if let Some((name, weight)) = change.split_once(":=") {
                let changed = Node::with_weight(find(name)?, weight.parse()?);
                after.iter_mut().filter(|node| node.name() == name).for_each(|node| *node = changed.clone());
            }
        }
        Ok(Self { before, after })
    }

    /// The least part of the keys that has to move: what the nodes gain that gain.
    pub(crate) fn ideal(&self) -> f64 {
        let gain = |node: &Node| {
            (ideal_share(&self.after, node.name()) - ideal_share(&self.before, node.name())).max(0.0)
        };
        self.after.iter().map(gain).sum()
    }

    pub(crate) fn play(&self, name: &'static str, build: Build) -> Outcome {
        let built = build(self.before.clone()).and_then(|before| Ok((before, build(self.after.clone())?)));
        let result = built.map(|(before, after)| self.compare(&*before, &*after));
        Outcome { name, result: result.map_err(|error| error.to_string()) }
    }

    fn compare(&self, before: &dyn Placement, after: &dyn Placement) -> Figures {
        let (mut owned_before, mut owned_after) = (vec![0.0; self.before.len()], vec![0.0; self.after.len()]);
        let (mut moved, mut between_others) = (0.0, 0.0);
        let one = 1.0 / f64::from(KEYS);
        for key in 0..KEYS {
            let key = format!("user:{key}");
            let (from, to) = (before.owner(key.as_bytes()), after.owner(key.as_bytes()));
            owned_before[from] += one;
            owned_after[to] += one;
            let (from, to) = (&self.before[from], &self.after[to]);
            if from.name() != to.name() {
                moved += one;
                // A node that is the same before and after.
                if self.after.contains(from) && self.before.contains(to) {
                    between_others += one;
                }
            }
        }
        let (peak_before, peak_after) = (peak(&self.before, &owned_before), peak(&self.after, &owned_after));
        Figures { before: owned_before, after: owned_after, peak_before, peak_after, moved, between_others }
    }
}

fn node(word: &str) -> Result<Node, Box<dyn Error>> {
    Ok(match word.rsplit_once('=') {
        Some((name, weight)) => Node::with_weight(name, weight.parse()?),
        None => Node::new(word),
    })
}

/// The part of the weights that a node has, 0 if it is not there.
pub(crate) fn ideal_share(nodes: &[Node], name: &str) -> f64 {
    let sum: f64 = nodes.iter().map(|node| f64::from(node.weight())).sum();
    let weight = nodes.iter().find(|node| node.name() == name).map_or(0.0, |node| f64::from(node.weight()));
    if sum > 0.0 { weight / sum } else { 0.0 }
}

fn peak(nodes: &[Node], owned: &[f64]) -> f64 {
    let over = |(node, owned): (&Node, &f64)| {
        let ideal = ideal_share(nodes, node.name());
        if ideal > 0.0 { owned / ideal } else { 0.0 }
    };
    nodes.iter().zip(owned).map(over).fold(0.0, f64::max)
}
