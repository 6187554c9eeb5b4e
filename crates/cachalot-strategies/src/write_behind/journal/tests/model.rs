//! Any operations, on a disk that fails now and then and loses power in between, against what was promised.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::Fsync;
use super::faulty::{Fault, Faulty};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        key: u8,
        len: usize,
        delete: bool,
    },
    /// Wait for all that was appended.
    Wait,
    /// The oldest or newest of what was acknowledged is done.
    Done {
        newest: bool,
        many: usize,
    },
    /// A write of the same key takes the place of the oldest or newest acknowledged one, which is done by that.
    Supersede {
        newest: bool,
        len: usize,
    },
    /// So much time goes by that all that was acknowledged must be durable.
    Pass,
    Dead,
    Cut,
    /// So many operations of the disk from now on one fails.
    Fail {
        nth: usize,
        short: usize,
        full: bool,
    },
    /// A loss of power or of the process, and a new start.
    Crash {
        names: bool,
        besides: usize,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4u8, 0..80usize, prop::bool::weighted(0.2))
            .prop_map(|(key, len, delete)| Step::Append { key, len, delete }),
        5 => Just(Step::Wait),
        5 => (any::<bool>(), 1..6usize).prop_map(|(newest, many)| Step::Done { newest, many }),
        5 => (any::<bool>(), 0..80usize).prop_map(|(newest, len)| Step::Supersede { newest, len }),
        2 => Just(Step::Pass),
        1 => Just(Step::Dead),
        1 => Just(Step::Cut),
        2 => (1..12usize, 0..200usize, any::<bool>())
            .prop_map(|(nth, short, full)| Step::Fail { nth, short, full }),
        1 => (any::<bool>(), 0..300usize).prop_map(|(names, besides)| Step::Crash { names, besides }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody was told anything.
    Open,
    Kept,
    Void,
    Dead,
    /// The source has it: whether it comes again is all the same.
    Done,
    /// Done, since this one has taken its place.
    Superseded(u64),
}

/// What was promised so far.
#[derive(Default)]
struct Promises {
    writes: BTreeMap<u64, (Logged, Fate)>,
    /// Those below were acknowledged so long ago that they are durable.
    safe: u64,
    cuts: Vec<u64>,
    writer: Option<u128>,
}

impl Promises {
    fn of(&self, fate: Fate) -> Vec<u64> {
        self.writes.iter().filter(|(_, (_, own))| *own == fate).map(|(sequence, _)| *sequence).collect()
    }

    fn append(&mut self, log: &dyn Journal, key: Bytes, value: Option<Bytes>) -> u64 {
        let sequence = log.append(key.clone(), value.clone());
        self.writes.insert(sequence, (Logged { sequence, key, value }, Fate::Open));
        sequence
    }

    fn set(&mut self, sequence: u64, fate: Fate) {
        self.writes.get_mut(&sequence).unwrap().1 = fate;
    }

    /// Whether it must come back, unless one that took its place does.
    fn is_owed(&self, sequence: u64) -> bool {
        matches!(self.writes[&sequence].1, Fate::Kept | Fate::Dead | Fate::Superseded(_))
    }

    /// A write, and those that have taken its place in turn.
    fn heirs(&self, sequence: u64, fate: Fate) -> impl Iterator<Item = u64> {
        std::iter::successors(Some((sequence, fate)), |(_, fate)| match fate {
            Fate::Superseded(by) => Some((*by, self.writes.get(by)?.1)),
            _ => None,
        })
        .map(|(sequence, _)| sequence)
    }

    /// `lazy`: the machine went down, and what was not synced by interval may be lost.
    fn check(&mut self, recovered: &Recovered, lazy: bool) -> std::result::Result<(), TestCaseError> {
        prop_assert_eq!(*self.writer.get_or_insert(recovered.writer), recovered.writer);
        let sequences: Vec<u64> = recovered.writes.iter().map(|write| write.sequence).collect();
        prop_assert!(sequences.is_sorted_by(|one, next| one < next), "{:?}", sequences);
        let dead: BTreeMap<u64, &Logged> =
            recovered.dead.iter().map(|dead| (dead.write.sequence, &dead.write)).collect();
        let mut found: BTreeMap<u64, &Logged> = dead.clone();
        found.extend(recovered.writes.iter().map(|write| (write.sequence, write)));
        prop_assert_eq!(found.len(), recovered.writes.len() + recovered.dead.len());
        for (sequence, write) in &found {
            let Some((appended, fate)) = self.writes.get(sequence) else {
                return Err(TestCaseError::fail(format!("{sequence} was never appended")));
            };
            prop_assert_eq!(*write, appended);
            prop_assert!(*fate != Fate::Void, "{} is void, and came back", sequence);
            let may_be_dead = matches!(fate, Fate::Dead | Fate::Done | Fate::Superseded(_));
            prop_assert!(!dead.contains_key(sequence) || may_be_dead);
        }
        for (sequence, (_, fate)) in &self.writes {
            if !lazy || *sequence < self.safe {
                let is_there = self.heirs(*sequence, *fate).any(|heir| found.contains_key(&heir));
                let is_owed = self.heirs(*sequence, *fate).all(|heir| self.is_owed(heir));
                prop_assert!(is_there || !is_owed, "{} was acknowledged, and is lost", sequence);
            }
            prop_assert!(*sequence < recovered.next_sequence);
        }
        let first = sequences.first().copied().unwrap_or(u64::MAX);
        for cut in &self.cuts {
            prop_assert!(*cut < first || recovered.cuts.contains(cut), "the cut at {} is lost", cut);
        }
        self.safe = recovered.next_sequence;
        // What is owed now is what is known now.
        let fate = |sequence: &u64| if dead.contains_key(sequence) { Fate::Dead } else { Fate::Kept };
        self.writes = found.into_iter().map(|(at, write)| (at, (write.clone(), fate(&at)))).collect();
        Ok(())
    }
}

async fn settle(log: &Arc<dyn Journal>, promises: &mut Promises) {
    for sequence in promises.of(Fate::Open) {
        let fate = if log.durable(sequence).await.is_ok() { Fate::Kept } else { Fate::Void };
        promises.set(sequence, fate);
    }
}

async fn run(steps: Vec<Step>, fsync: Fsync, tight: bool) -> std::result::Result<(), TestCaseError> {
    let clock = cachalot_core::ManualClock::new();
    let journal = |dir: &Path| {
        let journal = FileJournal::at(dir).fsync(fsync).segment_bytes(400);
        if tight { journal.max_bytes(4000) } else { journal }
    };
    let mut dir = tempfile::tempdir().unwrap();
    let mut faulty = Faulty::default();
    let entropy = Entropy::seeded(5);
    let mut promises = Promises::default();
    let (mut log, recovered) =
        journal(dir.path()).open_on(faulty.disk(), &entropy, &clock.clock()).await.unwrap();
    promises.check(&recovered, false)?;
    for step in steps {
        match step {
            Step::Append { key, len, delete } => {
                let key = Bytes::from(vec![key]);
                let value = (!delete).then(|| Bytes::from(vec![len as u8; len]));
                promises.append(&*log, key, value);
            }
            Step::Wait => settle(&log, &mut promises).await,
            Step::Done { newest, many } => {
                let mut kept = promises.of(Fate::Kept);
                kept.extend(promises.of(Fate::Dead));
                if newest {
                    kept.reverse();
                }
                kept.truncate(many);
                kept.sort_unstable();
                log.done(&kept);
                kept.into_iter().for_each(|sequence| promises.set(sequence, Fate::Done));
                clock.advance(Duration::from_millis(10));
            }
            Step::Supersede { newest, len } => {
                let mut kept = promises.of(Fate::Kept);
                if newest {
                    kept.reverse();
                }
                let Some(old) = kept.first().copied() else { continue };
                let key = promises.writes[&old].0.key.clone();
                let new = promises.append(&*log, key, Some(Bytes::from(vec![len as u8; len])));
                settle(&log, &mut promises).await;
                if promises.writes[&new].1 == Fate::Kept {
                    log.done(&[old]);
                    promises.set(old, Fate::Superseded(new));
                }
            }
            Step::Pass => {
                faulty.heal();
                settle(&log, &mut promises).await;
                clock.advance(Duration::from_millis(30));
                let mut last = 0;
                // When the second is in the file, the writer has looked at the clock after the first.
                for _ in 0..2 {
                    last = promises.append(&*log, Bytes::from_static(b"tick"), None);
                    settle(&log, &mut promises).await;
                }
                if promises.writes[&last].1 == Fate::Kept && promises.writes[&(last - 1)].1 == Fate::Kept {
                    promises.safe = last - 1;
                }
            }
            Step::Dead => {
                if let Some(sequence) = promises.of(Fate::Kept).first() {
                    log.dead(&[*sequence], 3, "refused");
                    promises.set(*sequence, Fate::Dead);
                }
            }
            Step::Cut => {
                settle(&log, &mut promises).await;
                if let Some(newest) = promises.of(Fate::Kept).last()
                    && log.cut(*newest).await.is_ok()
                {
                    promises.cuts.push(*newest);
                }
            }
            Step::Fail { nth, short, full } => {
                // One at a time: when all fails together even what is void cannot be said any more.
                faulty.heal();
                let kind = if full { std::io::ErrorKind::StorageFull } else { std::io::ErrorKind::Other };
                faulty.fail_any(nth, Fault { kind, short });
            }
            Step::Crash { names, besides } => {
                let image = tempfile::tempdir().unwrap();
                // What is still on its way may be lost or not.
                faulty.lose_power(image.path(), names, besides);
                drop(log);
                dir = image;
                faulty = Faulty::over(dir.path());
                let recovered;
                (log, recovered) =
                    journal(dir.path()).open_on(faulty.disk(), &entropy, &clock.clock()).await.unwrap();
                promises.check(&recovered, fsync != Fsync::Always)?;
            }
            Step::Restart => {
                faulty.heal();
                settle(&log, &mut promises).await;
                log.close().await.unwrap();
                let recovered;
                (log, recovered) =
                    journal(dir.path()).open_on(faulty.disk(), &entropy, &clock.clock()).await.unwrap();
                promises.check(&recovered, false)?;
                let again;
                log.close().await.unwrap();
                (log, again) =
                    journal(dir.path()).open_on(faulty.disk(), &entropy, &clock.clock()).await.unwrap();
                prop_assert_eq!(&again.writes, &recovered.writes);
                prop_assert_eq!(&again.dead, &recovered.dead);
            }
        }
    }
    Ok(())
}

fn check(steps: Vec<Step>, fsync: Fsync, tight: bool) -> std::result::Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(run(steps, fsync, tight))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn with_an_fsync_always_nothing_acknowledged_is_ever_lost_and_nothing_void_comes_back(
        steps in prop::collection::vec(step(), 1..120), tight: bool,
    ) {
        check(steps, Fsync::Always, tight)?;
    }

    #[test]
    fn with_an_fsync_now_and_then_nothing_wrong_comes_back(
        steps in prop::collection::vec(step(), 1..120), tight: bool,
    ) {
        check(steps, Fsync::Every(Duration::from_millis(25)), tight)?;
    }
}
