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
    /// How many processes there are at a time.
    pub(super) nodes: usize,
    /// How long memory keeps a copy, in milliseconds.
    pub(super) memory_ttl: u64,
    pub(super) habits: Habits,
    /// In no order.
    pub actions: Vec<Action>,
}

/// Settings of the caches of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Habits {
    pub(super) soft_timeout: bool,
    pub(super) early: Early,
    /// Who starts a refresh waits for it.
    pub(super) is_inline: bool,
    pub(super) error_backoff: bool,
    /// Loads that nobody waits for are cancelled.
    pub(super) cancels: bool,
    /// Loads go on when their callers have been sent away.
    pub(super) goes_on: bool,
    /// Every third version of a key is that there is no row.
    pub(super) has_absences: bool,
    pub(super) keeps_absences: bool,
    pub(super) tagging: Tagging,
    /// How the bus is; without one nobody is told anything.
    pub(super) sounds: Option<Sounds>,
}

/// How what is loaded comes to its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tagging {
    None,
    Declared,
    Decided,
}

/// What a bus does to messages, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sounds {
    pub(super) loss: u64,
    pub(super) twice: u64,
    pub(super) reorder: u64,
    /// Half of what comes before the first that is heard.
    pub(super) loses_first: bool,
}

/// What is invalidated by one call besides keys by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Tag,
    ExpiredTag,
    Pattern,
    All,
}

/// When values are refreshed before their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Early {
    Never,
    Ratio,
    XFetch,
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
    /// The next writer of the key may come when this one has its hold.
    pub(super) lets_in: bool,
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
    /// Reads, and loads what is missing.
    Load(Loading),
    /// Reads all keys at once.
    GetMany,
    /// Reads all keys at once, and loads what is missing, by a loader that may leave one out.
    LoadMany { loading: Loading, omits: bool },
    /// A process that has just been started reads, or falls back when its load fails.
    Probe { fails: bool },
    /// The source changes, and the cache is told.
    Change(How),
    /// The source is changed by a write through the cache.
    WriteThrough(Writing),
    /// The source changes in all keys, and the cache is told by one call.
    ChangeMany(How),
    /// A removal for no reason.
    Remove,
    /// The same of all keys by one call.
    RemoveMany,
    /// The process dies and starts again.
    Crash,
    /// The process stands still, as one that is stopped or collects garbage.
    Pause { lasts: u64 },
    /// The process does not reach the shared tier.
    Outage { lasts: u64 },
    /// The shared tier restarts empty.
    Lose,
    /// The shared tier forgets what it knows of tags.
    LoseTags,
    /// The process hears nothing on the bus, and subscribes anew.
    Deaf { lasts: u64 },
    /// The source changes, and the cache is told by what reaches all keys.
    ChangeAll(Reach),
}

/// One load: the source answers after `before`, the load is done `after` that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loading {
    pub(super) ttl: u64,
    pub(super) fails: bool,
    pub(super) before: u64,
    pub(super) after: u64,
    /// It holds its thread meanwhile.
    pub(super) is_stuck: bool,
    /// Who asks can do with an absence.
    pub(super) may_be_absent: bool,
}

/// One write through the cache: the source takes it after `before`, and answers `after` that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writing {
    pub(super) deletes: bool,
    /// The source refuses instead of taking it.
    pub(super) fails: bool,
    pub(super) before: u64,
    pub(super) after: u64,
}

const ACTIONS: u64 = 36;
/// For how long actions begin: some worlds are busier than others.
const STORMS: [u64; 3] = [150, 400, 1_200];
/// How long memory keeps a copy.
const MEMORY_TTLS: [u64; 2] = [400, 60_000];

/// What may happen, and how often on the whole.
const KINDS: [(What, u64); 24] = [
    (What::Look, 10),
    (What::Get, 14),
    (What::Load(Loading::calm(0)), 28),
    (What::GetMany, 4),
    (What::LoadMany { loading: Loading::calm(0), omits: false }, 8),
    (What::Probe { fails: false }, 8),
    (What::Change(How::Remove), 8),
    (What::Change(How::Expire), 7),
    (What::Change(How::Insert), 9),
    (What::ChangeMany(How::Remove), 3),
    (What::ChangeMany(How::Insert), 3),
    (What::Remove, 6),
    (What::RemoveMany, 2),
    (What::Crash, 2),
    (What::Pause { lasts: 0 }, 4),
    (What::Outage { lasts: 0 }, 8),
    (What::Lose, 3),
    (What::LoseTags, 3),
    (What::Deaf { lasts: 0 }, 4),
    (What::ChangeAll(Reach::Tag), 8),
    (What::ChangeAll(Reach::ExpiredTag), 3),
    (What::ChangeAll(Reach::Pattern), 2),
    (What::ChangeAll(Reach::All), 2),
    (What::WriteThrough(Writing { deletes: false, fails: false, before: 0, after: 0 }), 12),
];

impl Plan {
    /// The plan of `seed`. Worlds differ in size, pace and in what happens often: one in which everything
    /// happens now and then hides what needs the same thing three times.
    pub fn draw(seed: u64) -> Self {
        let lots = Entropy::seeded(seed);
        let draw = |below: u64| lots.draw_u64() % below;
        let nodes = 1 + draw(NODES as u64) as usize;
        let storm = STORMS[draw(3) as usize];
        let memory_ttl = MEMORY_TTLS[draw(2) as usize];
        let flip = || draw(2) == 0;
        let habits = Habits {
            soft_timeout: flip(),
            early: [Early::Never, Early::Ratio, Early::Ratio, Early::XFetch][draw(4) as usize],
            is_inline: flip(),
            error_backoff: flip(),
            cancels: flip(),
            goes_on: flip(),
            has_absences: draw(3) == 0,
            keeps_absences: flip(),
            tagging: [Tagging::None, Tagging::Declared, Tagging::Decided, Tagging::Decided][draw(4) as usize],
            sounds: flip().then(|| Sounds {
                loss: [0, 10, 30][draw(3) as usize],
                twice: [0, 30][draw(2) as usize],
                reorder: [0, 30][draw(2) as usize],
                loses_first: flip(),
            }),
        };
        let weights = KINDS.map(|(_, weight)| weight * [0, 1, 1, 3][draw(4) as usize]);
        let weights =
            if weights.iter().sum::<u64>() == 0 { KINDS.map(|(_, weight)| weight) } else { weights };
        let actions = (0..ACTIONS).map(|id| Action::draw(id, &draw, nodes, storm, &weights)).collect();
        Self { seed, nodes, memory_ttl, habits, actions }
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
    fn draw(
        id: u64,
        draw: &impl Fn(u64) -> u64,
        nodes: usize,
        storm: u64,
        weights: &[u64; KINDS.len()],
    ) -> Self {
        let at = draw(storm);
        let node = draw(nodes as u64) as usize;
        // Most go to the same key: they are to meet.
        let key = if draw(8) == 0 { 1 + draw(KEYS as u64 - 1) as usize } else { 0 };
        let what = What::draw(draw, weights);
        let leaves = (what.may_be_left() && draw(4) == 0).then(|| draw([8, 70][draw(2) as usize]));
        let dies = (draw(40) == 0).then(|| draw(6) as usize);
        let lets_in = draw(8) > 0;
        Self { id, at, node, key, what, leaves, lets_in, dies, is_calm: false }
    }

    /// One that is in no plan.
    pub(super) fn extra(key: usize, what: What) -> Self {
        Self { id: EXTRA, at: 0, node: 0, key, what, leaves: None, lets_in: false, dies: None, is_calm: true }
    }

    /// Versions of it to which less happens.
    fn calmer(self) -> [Self; 4] {
        let jealous = Self { lets_in: false, ..self };
        let patient = Self { leaves: None, ..jealous };
        let lasting = Self { dies: None, ..patient };
        [jealous, patient, lasting, Self { is_calm: true, ..lasting }]
    }
}

impl What {
    /// One of the kinds, by their weights in this world.
    fn draw(draw: &impl Fn(u64) -> u64, weights: &[u64; KINDS.len()]) -> Self {
        let mut lot = draw(weights.iter().sum());
        let mut kind = 0;
        while lot >= weights[kind] {
            lot -= weights[kind];
            kind += 1;
        }
        match KINDS[kind].0 {
            Self::Load(_) => Self::Load(Loading::draw(draw)),
            Self::LoadMany { .. } => Self::LoadMany { loading: Loading::draw(draw), omits: draw(4) == 0 },
            Self::Probe { .. } => Self::Probe { fails: draw(2) == 0 },
            Self::WriteThrough(_) => Self::WriteThrough(Writing::draw(draw)),
            Self::Pause { .. } => Self::Pause { lasts: draw(600) },
            Self::Outage { .. } => Self::Outage { lasts: draw(300) },
            Self::Deaf { .. } => Self::Deaf { lasts: draw(300) },
            plain => plain,
        }
    }

    fn may_be_left(self) -> bool {
        let is_read = matches!(self, Self::Load(_) | Self::Get | Self::GetMany | Self::LoadMany { .. });
        is_read
            || matches!(self, Self::Change(_) | Self::ChangeMany(_) | Self::Remove | Self::RemoveMany)
            || matches!(self, Self::ChangeAll(_) | Self::WriteThrough(_))
    }
}

impl Loading {
    fn draw(draw: &impl Fn(u64) -> u64) -> Self {
        let hangs = draw(20);
        Self {
            ttl: if draw(10) < 4 { 60 } else { 3_600_000 },
            fails: draw(10) < 2,
            before: draw(20),
            // One in twenty for longer than it may.
            after: if hangs == 0 { 150 + draw(1_500) } else { draw(60) },
            is_stuck: hangs == 0 && draw(2) == 0,
            may_be_absent: draw(3) == 0,
        }
    }

    /// One that takes no time.
    pub(super) const fn calm(ttl: u64) -> Self {
        Self { ttl, fails: false, before: 0, after: 0, is_stuck: false, may_be_absent: false }
    }
}

impl Writing {
    fn draw(draw: &impl Fn(u64) -> u64) -> Self {
        // One in ten for longer than a source may take.
        let hangs = if draw(10) == 0 { 80 + draw(300) } else { 0 };
        let is_late = draw(2) == 0;
        Self {
            deletes: draw(3) == 0,
            fails: draw(10) < 2,
            before: draw(20) + if is_late { hangs } else { 0 },
            after: draw(20) + if is_late { 0 } else { hangs },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_each_time_and_another_another() {
        assert_eq!(Plan::draw(7), Plan::draw(7));
        assert_ne!(Plan::draw(7).actions, Plan::draw(8).actions);
    }

    #[test]
    fn of_18_000_worlds_10_000_write_through_the_cache_and_in_hundreds_such_a_writer_dies() {
        let writes = |action: &Action| matches!(action.what, What::WriteThrough(_));
        let dies = |action: &Action| writes(action) && action.dies.is_some();
        let (mut worlds, mut deaths) = (0, [0; 6]);
        for seed in 0..18_000 {
            let plan = Plan::draw(seed);
            worlds += usize::from(plan.actions.iter().any(writes));
            plan.actions.iter().filter(|action| dies(action)).for_each(|action| {
                deaths[action.dies.unwrap_or_default()] += 1;
            });
        }
        assert!(worlds >= 10_000, "{worlds}");
        assert!(deaths.iter().all(|deaths| *deaths >= 100), "{deaths:?}");
    }

    #[test]
    fn a_plan_shrinks_to_what_is_needed_in_calm_weather() {
        let needed =
            |plan: &Plan| [3, 30].iter().all(|id| plan.actions.iter().any(|action| action.id == *id));
        let least = Plan::draw(1).shrink(needed);
        let left: Vec<_> = least.actions.iter().map(|action| (action.id, action.is_calm)).collect();
        assert_eq!(left, [(3, true), (30, true)]);
        assert!(least.actions.iter().all(|action| action.leaves.is_none() && action.dies.is_none()));
    }

    #[test]
    fn what_is_needed_of_an_action_stays() {
        let dies = |plan: &Plan| plan.actions.iter().any(|action| action.dies.is_some());
        let seed = (0..).find(|seed| dies(&Plan::draw(*seed))).unwrap();
        let least = Plan::draw(seed).shrink(dies);
        assert_eq!(least.actions.len(), 1);
        assert!(dies(&least) && least.actions[0].leaves.is_none());
    }
}
