use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use cachalot_core::units::{millis, seconds};
use cachalot_core::{Clock, Entropy};
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance, sleep};

use super::*;

type Loads = SingleFlight<&'static str, u32>;

/// Loads that are counted and wait for a gate; each gives its number.
#[derive(Clone)]
struct Gated {
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Gated {
    fn new() -> Self {
        let zero = || Arc::new(AtomicUsize::new(0));
        Self { begun: zero(), dropped: zero(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn load(&self) -> impl FnOnce() -> BoxFuture<'static, Result<u32, LoaderError>> + Send + 'static {
        let this = self.clone();
        move || {
            let number = this.begun.fetch_add(1, Ordering::SeqCst) as u32;
            let end = End(this.dropped.clone());
            Box::pin(async move {
                this.gate.acquire().await?.forget();
                drop(end);
                Ok(number)
            })
        }
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn open(&self) {
        self.gate.add_permits(1);
    }
}

/// Counts the ends of loads, finished or not.
struct End(Arc<AtomicUsize>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn failing(
    calls: &Arc<AtomicUsize>,
) -> impl FnOnce() -> BoxFuture<'static, Result<u32, LoaderError>> + Send + use<> {
    let calls = calls.clone();
    move || {
        let number = calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            sleep(millis(50)).await;
            Err(LoaderError::new(std::io::Error::other(format!("failure {number}"))))
        })
    }
}

fn never() -> impl FnOnce() -> BoxFuture<'static, Result<u32, LoaderError>> + Send {
    || panic!("somebody else loads")
}

fn kind<V: std::fmt::Debug>(outcome: Result<V, LoadError>) -> ErrorKind {
    outcome.unwrap_err().cache_kind().expect("not the loader's error")
}

fn spawn_call(flights: &Loads, load: &Gated) -> tokio::task::JoinHandle<Outcome<u32>> {
    let (flights, load) = (flights.clone(), load.load());
    tokio::spawn(async move { flights.run(&"k", load).await })
}

/// Runs every other task until all wait.
async fn settle() {
    sleep(millis(1)).await;
}

fn paused_clock() -> Clock {
    let start = Instant::now();
    Clock::custom(move || Timestamp::from_millis(1_000_000) + start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn one_load_serves_a_thousand_callers() {
    let (flights, gated) = (Loads::new(), Gated::new());
    let calls: Vec<_> = (0..1000).map(|_| spawn_call(&flights, &gated)).collect();
    settle().await;
    assert_eq!((flights.waiting("k"), flights.len()), (1000, 1));
    gated.open();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 0);
    }
    assert_eq!(gated.begun(), 1);
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_after_the_end_loads_again() {
    let (flights, gated) = (Loads::new(), Gated::new());
    for number in 0..3 {
        gated.open();
        assert_eq!(flights.run(&"k", gated.load()).await.unwrap(), number);
    }
}

/// Polls `future` `polls` times, then drops it.
async fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn callers_dropped_at_any_await_the_first_included_hurt_nobody() {
    for leader_polls in 0..4 {
        for follower_polls in 0..4 {
            let (flights, gated) = (Loads::new(), Gated::new());
            assert!(polled(flights.run(&"k", gated.load()), leader_polls).await.is_none());
            assert!(polled(flights.run(&"k", gated.load()), follower_polls).await.is_none());
            let stays = spawn_call(&flights, &gated);
            settle().await;
            assert_eq!(flights.waiting("k"), 1);
            gated.open();
            assert_eq!(stays.await.unwrap().unwrap(), 0, "{leader_polls} and {follower_polls} polls");
            assert_eq!(gated.begun(), 1);
            assert!(flights.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_aborted_leaders_leave_the_key_usable() {
    let (flights, gated) = (Loads::new(), Gated::new());
    for _ in 0..200 {
        let call = spawn_call(&flights, &gated);
        tokio::task::yield_now().await;
        call.abort();
    }
    let last = spawn_call(&flights, &gated);
    settle().await;
    gated.open();
    assert_eq!(last.await.unwrap().unwrap(), 0);
    assert_eq!(gated.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_with_too_little_patience_cost_one_load_that_ends() {
    let flights = Loads::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let load = || {
        let calls = calls.clone();
        move || async move {
            calls.fetch_add(1, Ordering::SeqCst);
            sleep(millis(120)).await;
            Ok(7)
        }
    };
    for _ in 0..2 {
        assert_eq!(kind(flights.run_within(&"k", millis(50), load()).await), ErrorKind::Timeout);
    }
    assert_eq!(flights.run_within(&"k", millis(50), load()).await.unwrap(), 7);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn one_callers_deadline_is_nobody_elses() {
    let (flights, gated) = (Loads::new(), Gated::new());
    let patient = spawn_call(&flights, &gated);
    settle().await;
    assert_eq!(kind(flights.run_within(&"k", millis(10), never()).await), ErrorKind::Timeout);
    assert_eq!(flights.waiting("k"), 1);
    gated.open();
    assert_eq!(patient.await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn fifty_callers_of_a_failing_loader_are_one_call() {
    let (flights, calls) = (Loads::new(), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (flights, load) = (flights.clone(), failing(&calls));
            tokio::spawn(async move { flights.run(&"k", load).await })
        })
        .collect();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "failure 0");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_is_an_error_and_the_next_call_loads() {
    let flights = Loads::new();
    let at_once: fn() -> std::future::Ready<Result<u32, LoaderError>> = || panic!("at once");
    let error = flights.run(&"k", at_once).await.unwrap_err();
    assert!(error.to_string().contains("at once"), "{error}");
    assert_eq!(error.cache_kind(), Some(ErrorKind::Panicked));
    let later = || async {
        sleep(millis(1)).await;
        panic!("later")
    };
    let error = flights.run(&"k", later).await.unwrap_err();
    assert!(error.to_string().contains("later"), "{error}");
    assert!(flights.is_empty());
    assert_eq!(flights.run(&"k", || async { Ok(7) }).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_load_sends_its_callers_away_and_frees_the_key() {
    let flights = Loads::builder().hard_timeout(seconds(1)).clock(paused_clock()).build().unwrap();
    let gated = Gated::new();
    assert_eq!(kind(flights.run(&"k", gated.load()).await), ErrorKind::Timeout);
    settle().await;
    assert_eq!(gated.dropped.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_the_hard_timeout_a_load_goes_on_until_its_age_ends_it() {
    let flights = Loads::builder()
        .hard_timeout(seconds(1))
        .max_flight_age(seconds(10))
        .clock(paused_clock())
        .build()
        .unwrap();
    let (hung, start) = (Gated::new(), Instant::now());
    assert_eq!(kind(flights.run(&"k", hung.load()).await), ErrorKind::Timeout);
    assert_eq!(start.elapsed(), seconds(1));
    // Who comes now gets the timeout at once, without a load.
    assert_eq!(kind(flights.run(&"k", never()).await), ErrorKind::Timeout);
    assert_eq!(start.elapsed(), seconds(1));
    advance(seconds(9)).await;
    settle().await;
    assert!(flights.is_empty());
    assert_eq!(flights.run(&"k", || async { Ok(7) }).await.unwrap(), 7);
}

/// Keeps tasks that it never runs: a runtime whose threads are all blocked.
struct Stuck(std::sync::Mutex<Vec<BoxFuture<'static, ()>>>);

/// Runs the tasks on tokio once `freed`.
#[derive(Clone)]
struct StuckOnce(Arc<Stuck>, Arc<AtomicUsize>);

impl cachalot_core::Spawn for StuckOnce {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if self.1.fetch_add(1, Ordering::SeqCst) == 0 {
            self.0.0.lock().unwrap().push(task);
        } else {
            tokio::spawn(task);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_blocks_its_thread_is_overtaken_and_its_callers_are_served() {
    let stuck = StuckOnce(Arc::new(Stuck(Default::default())), Default::default());
    let flights =
        Loads::builder().hard_timeout(seconds(5)).clock(paused_clock()).spawn(stuck.clone()).build().unwrap();
    let gated = Gated::new();
    let hangs = spawn_call(&flights, &gated);
    settle().await;
    advance(millis(5_001)).await;
    let next = spawn_call(&flights, &gated);
    settle().await;
    assert_eq!(gated.begun(), 2);
    gated.open();
    assert_eq!(next.await.unwrap().unwrap(), 1);
    assert_eq!(hangs.await.unwrap().unwrap(), 1, "it need not wait for the one that hangs");
    assert!(flights.is_empty());
    // The blocked thread goes on after all.
    gated.open();
    let late = stuck.0.0.lock().unwrap().pop().unwrap();
    late.await;
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_ends_hands_its_loads_to_those_who_only_joined() {
    let stuck = StuckOnce(Arc::new(Stuck(Default::default())), Default::default());
    let flights = Loads::builder().spawn(stuck.clone()).build().unwrap();
    let gated = Gated::new();
    let (leader, joined) = (spawn_call(&flights, &gated), spawn_call(&flights, &gated));
    settle().await;
    let task = stuck.0.0.lock().unwrap().pop();
    drop(task);
    gated.open();
    assert_eq!(kind(leader.await.unwrap()), ErrorKind::Cancelled);
    assert_eq!(joined.await.unwrap().unwrap(), 1);
}

#[test]
fn without_a_runtime_it_panics_and_keeps_nothing() {
    let flights = Loads::new();
    let call = flights.run(&"k", || async { Ok(7) });
    let polled = catch_unwind(AssertUnwindSafe(|| {
        Box::pin(call).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }));
    assert!(polled.is_err());
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deserted_load_is_finished_by_default() {
    let (flights, gated) = (Loads::new(), Gated::new());
    assert!(polled(flights.run(&"k", gated.load()), 1).await.is_none());
    settle().await;
    assert_eq!((flights.len(), flights.waiting("k")), (1, 0));
    gated.open();
    settle().await;
    assert_eq!(gated.gate.available_permits(), 0, "it took its permit");
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deserted_load_is_dropped_if_so_told_and_not_before_the_last_has_left() {
    let flights = Loads::builder().on_deserted(OnDeserted::Cancel).build().unwrap();
    let gated = Gated::new();
    let (one, two) = (spawn_call(&flights, &gated), spawn_call(&flights, &gated));
    settle().await;
    one.abort();
    settle().await;
    assert_eq!(gated.dropped.load(Ordering::SeqCst), 0);
    two.abort();
    settle().await;
    assert_eq!(gated.dropped.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
    let next = spawn_call(&flights, &gated);
    settle().await;
    gated.open();
    assert_eq!(next.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_timeline_of_error_backoff() {
    let flights = Loads::builder()
        .error_backoff(seconds(1), seconds(4))
        .clock(paused_clock())
        .entropy(Entropy::seeded(3))
        .build()
        .unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let now = || flights.inner.settings.clock.now();
    for (failures, bound) in [(1, 1), (2, 2), (3, 4), (4, 4)] {
        assert_eq!(flights.retry_at("k"), None);
        let failed = flights.run(&"k", failing(&calls)).await.unwrap_err();
        let retry_at = flights.retry_at("k").unwrap();
        assert_eq!(failed.retry_at(), Some(retry_at));
        let pause = retry_at.since(now());
        assert!(pause >= seconds(bound) / 2 && pause <= seconds(bound), "{failures}: {pause:?}");
        // Meanwhile: the same error at once, without a load.
        advance(pause - millis(1)).await;
        let error = flights.run(&"k", never()).await.unwrap_err();
        let text = format!("failure {}", failures - 1);
        assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), text);
        assert_eq!(error.retry_at(), Some(retry_at));
        assert_eq!(calls.load(Ordering::SeqCst), failures);
        advance(millis(1)).await;
    }
    // A success starts over.
    assert_eq!(flights.run(&"k", || async { Ok(7) }).await.unwrap(), 7);
    flights.run(&"k", failing(&calls)).await.unwrap_err();
    assert!(flights.retry_at("k").unwrap().since(now()) <= seconds(1));
    // So does `forget`, at once.
    assert!(flights.forget("k"));
    assert_eq!(flights.run(&"k", || async { Ok(8) }).await.unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn what_fails_after_it_was_forgotten_closes_nothing() {
    let flights =
        Loads::builder().error_backoff(seconds(1), seconds(4)).clock(paused_clock()).build().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let caller = tokio::spawn({
        let (flights, load) = (flights.clone(), failing(&calls));
        async move { flights.run(&"k", load).await }
    });
    settle().await;
    assert!(flights.forget("k"));
    caller.await.unwrap().unwrap_err();
    assert_eq!(flights.retry_at("k"), None);
    assert!(!flights.forget("k"));
}

thread_local! {
    static BEFORE_HASH: std::cell::RefCell<Option<Box<dyn FnOnce()>>> = const { std::cell::RefCell::new(None) };
}

/// A key that lets a test act between two steps of a call.
#[derive(Clone, PartialEq, Eq)]
struct Traced;

impl Hash for Traced {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let act = BEFORE_HASH.take();
        act.into_iter().for_each(|act| act());
        7.hash(state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_between_a_callers_look_and_its_join_costs_no_second_load() {
    let stuck = StuckOnce(Arc::new(Stuck(Default::default())), Default::default());
    let flights: SingleFlight<Traced, u32> = SingleFlight::builder()
        .error_backoff(seconds(1), seconds(4))
        .clock(paused_clock())
        .spawn(stuck.clone())
        .build()
        .unwrap();
    let first = tokio::spawn({
        let flights = flights.clone();
        async move { flights.run(&Traced, || async { Err(LoaderError::new("down")) }).await }
    });
    settle().await;
    let mut load = stuck.0.0.lock().unwrap().pop().unwrap();
    BEFORE_HASH.set(Some(Box::new(move || {
        assert!(load.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    })));
    let second = flights.run(&Traced, never()).await.unwrap_err();
    assert_eq!(second.to_string(), first.await.unwrap().unwrap_err().to_string());
    assert!(second.retry_at().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_calls_after_forget_never_gets_what_was_begun_before() {
    let (flights, gated) = (Loads::new(), Gated::new());
    let before = spawn_call(&flights, &gated);
    settle().await;
    assert!(flights.forget("k"));
    let after = spawn_call(&flights, &gated);
    settle().await;
    flights.forget_all();
    let last = spawn_call(&flights, &gated);
    settle().await;
    gated.gate.add_permits(3);
    assert_eq!(before.await.unwrap().unwrap(), 0);
    assert_eq!(after.await.unwrap().unwrap(), 1);
    assert_eq!(last.await.unwrap().unwrap(), 2);
    assert!(flights.is_empty());
}

/// Loads `key` by asking for what `asks` says it needs.
fn chain(
    flights: Loads,
    asks: Arc<HashMap<&'static str, &'static str>>,
    key: &'static str,
) -> BoxFuture<'static, Outcome<u32>> {
    Box::pin(async move {
        let inner = flights.clone();
        let load = move || async move {
            // Long enough for every loader of the ring to have begun.
            sleep(millis(10)).await;
            match asks.get(key) {
                Some(next) => Ok(chain(inner, asks.clone(), next).await? + 1),
                None => Ok(0),
            }
        };
        flights.run(&key, load).await
    })
}

fn is_reentrant(error: &LoadError) -> bool {
    let mut error: &LoadError = error;
    while let Some(inner) = error.downcast_ref::<LoadError>() {
        error = inner;
    }
    error.cache_kind() == Some(ErrorKind::Reentrant)
}

#[tokio::test(start_paused = true)]
async fn loads_that_wait_for_each_other_in_a_ring_are_told_at_once() {
    let rings: [&[(&str, &str)]; 3] =
        [&[("a", "a")], &[("a", "b"), ("b", "a")], &[("a", "b"), ("b", "c"), ("c", "a")]];
    for ring in rings {
        let flights = Loads::new();
        let asks = Arc::new(ring.iter().copied().collect::<HashMap<_, _>>());
        let start = Instant::now();
        // Begun at one place, then at all places at once.
        assert!(is_reentrant(&chain(flights.clone(), asks.clone(), "a").await.unwrap_err()));
        let calls: Vec<_> =
            ring.iter().map(|(key, _)| tokio::spawn(chain(flights.clone(), asks.clone(), key))).collect();
        for call in calls {
            assert!(is_reentrant(&call.await.unwrap().unwrap_err()));
        }
        assert!(start.elapsed() < seconds(1), "at once, not by a timeout");
        assert!(flights.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn loads_that_need_others_without_a_ring_just_work() {
    let flights = Loads::new();
    let asks = Arc::new(HashMap::from([("a", "c"), ("b", "c"), ("c", "d")]));
    let calls = ["a", "b", "c"].map(|key| chain(flights.clone(), asks.clone(), key));
    let [a, b, c] = calls.map(tokio::spawn);
    assert_eq!((a.await.unwrap().unwrap(), b.await.unwrap().unwrap(), c.await.unwrap().unwrap()), (2, 2, 1));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |builder: SingleFlightBuilder<u8, u8>| builder.build().unwrap_err().kind();
    assert_eq!(refused(SingleFlight::builder().hard_timeout(Duration::ZERO)), ErrorKind::Config);
    assert_eq!(refused(SingleFlight::builder().max_flight_age(seconds(1))), ErrorKind::Config);
    assert_eq!(refused(SingleFlight::builder().error_backoff(seconds(2), seconds(1))), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_few_keys_leaves_nothing_behind() {
    let flights: SingleFlight<u32, u32> = SingleFlight::new();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..4_000u32 {
        let flights = flights.clone();
        callers.spawn(async move {
            let key = caller % 7;
            let load = move || async move {
                tokio::task::yield_now().await;
                match caller % 5 {
                    0 => Err(LoaderError::new("no")),
                    1 => panic!("a loader that panics"),
                    _ => Ok(key),
                }
            };
            if caller % 3 == 0 {
                polled(flights.run(&key, load), caller as usize % 4).await;
            } else if let Ok(value) = flights.run(&key, load).await {
                assert_eq!(value, key);
            }
        });
        if caller % 11 == 0 {
            callers.abort_all();
        }
    }
    while callers.join_next().await.is_some() {}
    while !flights.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_call_whose_loader_captures_a_pointer_is_at_most_64_bytes() {
    let loads = Loads::new();
    let number = Arc::new(7);
    let call = loads.run(&"k", move || async move { Ok(*number) });
    assert!(size_of_val(&call) <= 64, "{} bytes", size_of_val(&call));
}
