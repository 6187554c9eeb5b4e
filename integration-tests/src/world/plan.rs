//! What is to happen in a world: drawn from a seed, and made smaller once it has shown something.

use std::fmt;

use cachalot_core::Entropy;
use cachalot_testkit::history::How;

use super::{EXTRA, KEYS, NODES};

/// What is to happen, and when. Parts may be left out: what is left goes on as before, as far as it does not
/// depend on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where all randomness comes from.
    pub seed: u64,
    /// In no order.
    pub actions: Vec<Action>,
}

/// One thing that happens at its time, however long the others take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub(super) id: u64,
    /// Milliseconds from the start.
    pub(super) at: u64,
    pub(super) node: usize,
    pub(super) key: usize,
    pub(super) what: What,
    /// The caller leaves after so many milliseconds.
    pub(super) leaves: Option<u64>,
    /// The process dies at this step of this action.
    pub(super) dies: Option<usize>,
    /// Its commands take no time and always arrive.
    pub(super) is_calm: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Reads memory.
    Look,
    /// Reads without loading.
    Get,
    /// Reads, and loads what is missing: the source answers after `before`, the load is done `after` that.
    Load { ttl: u64, fails: bool, before: u64, after: u64 },
    /// A process that has just been started reads, or falls back when its load fails.
    Probe { fails: bool },
    /// The source changes, and the cache is told.
    Change(How),
    /// A removal for no reason.
    Remove,
    /// The process dies and starts again.
    Crash,
    /// The process stands still, as one that is stopped or collects garbage.
    Pause { lasts: u64 },
    /// The process does not reach the shared tier.
    Outage { lasts: u64 },
    /// The shared tier restarts empty.
    Lose,
}

/// For how long actions begin.
const STORM: u64 = 1_200;
const ACTIONS: u64 = 36;

impl Plan {
    /// The plan of `seed`.
    pub fn draw(seed: u64) -> Self {
        let lots = Entropy::seeded(seed);
        Self { seed, actions: (0..ACTIONS).map(|id| Action::draw(id, &lots)).collect() }
    }

    /// The smallest plan that still does what `shows` asks for, as far as leaving out one thing at a time
    /// leads there. `shows` must be true of this one.
    #[must_use]
    pub fn shrink(mut self, shows: impl Fn(&Self) -> bool) -> Self {
        loop {
            let before = self.clone();
            self.leave_out(&shows);
            self.calm_down(&shows);
            if self == before {
                return self;
            }
        }
    }

    /// Drops runs of actions, long ones first.
    fn leave_out(&mut self, shows: &impl Fn(&Self) -> bool) {
        let mut length = self.actions.len() / 2;
        while length > 0 {
            let mut at = 0;
            while at < self.actions.len() {
                let mut smaller = self.clone();
                smaller.actions.drain(at..(at + length).min(self.actions.len()));
                match shows(&smaller) {
                    true => *self = smaller,
                    false => at += length,
                }
            }
            length /= 2;
        }
    }

    fn calm_down(&mut self, shows: &impl Fn(&Self) -> bool) {
        for at in 0..self.actions.len() {
            for calmer in self.actions[at].calmer() {
                let mut smaller = self.clone();
                smaller.actions[at] = calmer;
                if smaller != *self && shows(&smaller) {
                    *self = smaller;
                }
            }
        }
    }
}

impl Action {
    fn draw(id: u64, lots: &Entropy) -> Self {
        let draw = |below: u64| lots.draw_u64() % below;
        let at = draw(STORM);
        let node = draw(NODES as u64) as usize;
        // Most go to the same key: they are to meet.
        let key = if draw(6) == 0 { 1 + draw(KEYS as u64 - 1) as usize } else { 0 };
        let what = What::draw(&draw);
        let leaves = (what.may_be_left() && draw(6) == 0).then(|| draw(70));
        let dies = (draw(40) == 0).then(|| draw(6) as usize);
        Self { id, at, node, key, what, leaves, dies, is_calm: false }
    }

    /// One that is in no plan.
    pub(super) fn extra(key: usize, what: What) -> Self {
        Self { id: EXTRA, at: 0, node: 0, key, what, leaves: None, dies: None, is_calm: true }
    }

    /// Versions of it to which less happens.
    fn calmer(self) -> [Self; 3] {
        let patient = Self { leaves: None, ..self };
        let lasting = Self { dies: None, ..patient };
        [patient, lasting, Self { is_calm: true, ..lasting }]
    }
}

impl What {
    fn draw(draw: &impl Fn(u64) -> u64) -> Self {
        match draw(100) {
            0..10 => Self::Look,
            10..24 => Self::Get,
            24..52 => Self::Load {
                ttl: if draw(10) < 4 { 60 } else { 3_600_000 },
                fails: draw(10) < 2,
                before: draw(20),
                after: draw(60),
            },
            52..60 => Self::Probe { fails: draw(2) == 0 },
            60..67 => Self::Change(How::Remove),
            67..73 => Self::Change(How::Expire),
            73..81 => Self::Change(How::Insert),
            81..86 => Self::Remove,
            86..88 => Self::Crash,
            88..92 => Self::Pause { lasts: draw(600) },
            92..97 => Self::Outage { lasts: draw(300) },
            _ => Self::Lose,
        }
    }

    /// An insert may not: the next writer of the key would not know when it is over.
    fn may_be_left(self) -> bool {
        match self {
            Self::Load { .. } | Self::Get | Self::Remove => true,
            Self::Change(how) => how != How::Insert,
            _ => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} at {} ms, node {}, key {}: {:?}", self.id, self.at, self.node, self.key, self.what)?;
        if let Some(after) = self.leaves {
            write!(f, ", the caller leaves after {after} ms")?;
        }
        if let Some(step) = self.dies {
            write!(f, ", the process dies at step {step}")?;
        }
        if self.is_calm { f.write_str(", in calm weather") } else { Ok(()) }
    }
}
