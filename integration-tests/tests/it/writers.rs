//! Two writers of one key, interleaved at every step: at the end all tiers hold one value of theirs, or none.

use std::sync::Arc;
use std::time::Duration;

use cachalot::{Cached, Clock, Entry, Inserted, Memory, MemoryBackend};
use cachalot_core::Backend;
use cachalot_testkit::broken::{BrokenBackend, Defect};
use cachalot_testkit::{ModelBackend, RedisServer, block_on, block_on_paused, tokio_clock};
use integration_tests::{Actor, HOLD_TERM, L1, Lapse, Lapsed, Node, Place, Script, Stage, connect};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Engine = Memory<u64, Arc<Entry<String>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Insert(&'static str),
    Remove,
    Expire,
}

/// What the second writer does; the first inserts "one".
const SECONDS: [Write; 3] = [Write::Insert("two"), Write::Remove, Write::Expire];

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Stored,
    Dropped,
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Duel {
    second: Write,
    place: Place,
    stops: (usize, usize),
}

struct Run<S> {
    script: Script,
    key: u64,
    here: Node<S>,
    there: Node<S>,
    fresh: Node<S>,
}

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than a writer takes to its stop, and shorter than a hold.
const A_WHILE: Duration = Duration::from_millis(500);
const ENDLESS: usize = 20;

/// All duels of `stage`. How many runs stopped both writers.
async fn all_duels<S: L1>(stage: &Stage) -> Result<usize, String> {
    let mut stops = 0;
    for second in SECONDS {
        for place in [Place::Here, Place::Elsewhere] {
            for first_stop in 0..=ENDLESS {
                let mut is_stopped = true;
                for second_stop in 0..=ENDLESS {
                    assert!(first_stop + second_stop < ENDLESS, "{second:?} does not end");
                    let duel = Duel { second, place, stops: (first_stop, second_stop) };
                    let came = fight::<S>(stage, duel).await?;
                    is_stopped = came.0;
                    if !came.1 {
                        break;
                    }
                    stops += 1;
                }
                if !is_stopped {
                    break;
                }
            }
        }
    }
    Ok(stops)
}

/// Whether the two came to where they were to stop.
async fn fight<S: L1>(stage: &Stage, duel: Duel) -> Result<(bool, bool), String> {
    let run = Run::<S>::new(stage, duel.place);
    run.seed().await;
    let outcome = run.fight(duel).await;
    outcome.map_err(|complaint| format!("{duel:?}: {complaint}\n{}", run.script.trace()))
}

impl<S: L1> Run<S> {
    fn new(stage: &Stage, place: Place) -> Self {
        let script = Script::new();
        let node = || stage.node(&script, MINUTE, Duration::ZERO, 1);
        let here = node();
        let there = if place == Place::Here { here.clone() } else { node() };
        Self { key: stage.next_run(), here, there, fresh: node(), script }
    }

    async fn seed(&self) {
        self.here.insert(self.key, "zero".into()).await.unwrap();
    }

    async fn fight(&self, duel: Duel) -> Result<(bool, bool), String> {
        self.script.stop(Actor::First, duel.stops.0);
        self.script.stop(Actor::Second, duel.stops.1);
        let first = self.start(Actor::First, &self.here, Write::Insert("one"));
        let first_stopped = self.script.stopped(Actor::First).await;
        let second = self.start(Actor::Second, &self.there, duel.second);
        // Inserts of one key in one process take turns: then it waits for the first, and stops nowhere.
        let second_stopped = timeout(A_WHILE, self.script.stopped(Actor::Second)).await.unwrap_or_default();
        self.script.release(Actor::First);
        let first = first.await.map_err(|error| error.to_string())?;
        self.script.release(Actor::Second);
        let second = second.await.map_err(|error| error.to_string())?;
        self.script.note(format_args!("-- first {first:?}, second {second:?}"));

        let in_memory = [value(self.here.get_local(&self.key)), value(self.there.get_local(&self.key))];
        let below = value(self.fresh.get(&self.key).await);
        self.judge(duel, in_memory, below.as_deref(), (first, second))?;
        if !first_stopped {
            let last = if let Write::Insert(last) = duel.second { Some(last) } else { None };
            if below.as_deref() != last {
                return Err(format!("{below:?} below, although the second writer came last"));
            }
        }
        Ok((first_stopped, second_stopped))
    }

    fn start(&self, actor: Actor, node: &Node<S>, write: Write) -> JoinHandle<Reply> {
        let (node, key) = (node.clone(), self.key);
        self.script.spawn(actor, async move {
            match write {
                Write::Insert(value) => match node.insert(key, value.to_owned()).await.unwrap() {
                    Inserted::Stored => Reply::Stored,
                    Inserted::Dropped => Reply::Dropped,
                    Inserted::Outdated => panic!("it has no version"),
                    Inserted::Deferred => panic!("the shared tier was there all the time"),
                },
                Write::Remove => node.remove(&key).await.map(|_| Reply::Gone).unwrap(),
                Write::Expire => node.expire(&key).await.map(|_| Reply::Gone).unwrap(),
            }
        })
    }

    fn judge(
        &self,
        duel: Duel,
        in_memory: [Option<String>; 2],
        below: Option<&str>,
        replies: (Reply, Reply),
    ) -> Result<(), String> {
        let seen = || format!("{in_memory:?} in memory, {below:?} below, {replies:?}");
        // Another process may keep its copy for its memory TTL: no message tells it yet.
        let disagrees = |held: &Option<String>| held.is_some() && held.as_deref() != below;
        if duel.place == Place::Here && in_memory.iter().any(disagrees) {
            return Err(format!("the tiers disagree: {}", seen()));
        }
        if below == Some("zero") || in_memory.iter().flatten().any(|held| held == "zero") {
            return Err(format!("the value from before both is back: {}", seen()));
        }
        let expected = match (duel.place, replies) {
            // In one process a writer that lost its place in memory is not told whether it was last below.
            (Place::Here, _) => return Ok(()),
            (_, (Reply::Stored, Reply::Dropped)) => Some("one"),
            (_, (Reply::Dropped, Reply::Stored)) => Some("two"),
            (_, (Reply::Dropped, Reply::Dropped | Reply::Gone)) => None,
            _ => return Ok(()),
        };
        if below != expected {
            return Err(format!("the replies say otherwise: {}", seen()));
        }
        Ok(())
    }
}

fn value(seen: Option<Cached<String>>) -> Option<String> {
    seen.map(Cached::into_inner)
}

fn paused(backend: impl FnOnce(Clock) -> Arc<dyn Backend>) -> Stage {
    let clock = tokio_clock();
    Stage::over(backend(clock.clone()), clock)
}

/// How often the second writer was stopped. At the five steps of the first, its end included: two steps of a
/// removal or an expiration, and in another process four of an insert, but two if it meets the first one's hold.
/// In the same process an insert waits for the first, and has its four steps at the end.
const STOPS: usize = 2 * (5 * 2 + 5 * 2) + (3 * 4 + 2 * 2) + 4;

#[test]
fn two_writers_at_every_step_agree_over_a_shared_memory() {
    let stops = block_on_paused(async {
        all_duels::<Engine>(&paused(|clock| Arc::new(MemoryBackend::with_limit(1 << 20, clock)))).await
    });
    assert_eq!(stops.unwrap_or_else(|trace| panic!("{trace}")), STOPS);
}

#[test]
fn two_writers_at_every_step_agree_over_redis() {
    let server = RedisServer::start();
    let stops = block_on(async {
        all_duels::<Engine>(&Stage::over(Arc::new(connect(&server).await), Clock::system())).await
    });
    assert_eq!(stops.unwrap_or_else(|trace| panic!("{trace}")), STOPS);
}

#[test]
fn two_writers_that_met_keep_the_key_uncached_for_the_hold_term_only() {
    block_on_paused(async {
        let stage = paused(|clock| Arc::new(ModelBackend::new(clock)));
        let run = Run::<Engine>::new(&stage, Place::Elsewhere);
        run.script.stop(Actor::First, 1);
        let first = run.start(Actor::First, &run.here, Write::Insert("one"));
        assert!(run.script.stopped(Actor::First).await);
        let second = run.start(Actor::Second, &run.there, Write::Insert("two"));
        assert_eq!(second.await.unwrap(), Reply::Dropped);
        run.script.release(Actor::First);
        assert_eq!(first.await.unwrap(), Reply::Dropped);
        for (pause, stored) in [(Duration::ZERO, false), (HOLD_TERM, true)] {
            sleep(pause).await;
            let loaded = run.there.get_or_load(&run.key, |_| async { Ok("three".to_owned()) }).await.unwrap();
            assert_eq!(*loaded, "three");
            assert_eq!(value(run.fresh.get(&run.key).await).is_some(), stored);
        }
    });
}

/// Whether any duel notices `mistake`.
#[cfg(cachalot_mutants)]
pub(crate) fn notice(mistake: integration_tests::Mistake) -> bool {
    mistake.under(|| {
        block_on_paused(async {
            let stage = paused(|clock| mistake.spoil(ModelBackend::new(clock)));
            all_duels::<Engine>(&stage).await.is_err()
        })
    })
}

#[test]
fn every_tier_that_misleads_writers_is_noticed() {
    let is_noticed = |backend: &dyn Fn(ModelBackend) -> Arc<dyn Backend>| {
        let stage = || paused(|clock| backend(ModelBackend::new(clock)));
        block_on_paused(async { all_duels::<Engine>(&stage()).await.is_err() })
    };
    for lapse in [Lapse::LosesRemovals, Lapse::LosesExpirations] {
        assert!(is_noticed(&|model| Arc::new(Lapsed::new(model, lapse))), "{lapse:?} goes unnoticed");
    }
    for defect in [Defect::PassesTheHoldOn, Defect::ExpiresWithoutAMark] {
        assert!(
            is_noticed(&|model| Arc::new(BrokenBackend::new(model, defect))),
            "{defect:?} goes unnoticed"
        );
    }
}
