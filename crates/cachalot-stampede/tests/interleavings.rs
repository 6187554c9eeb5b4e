//! Every schedule of a few threads around one flight, by loom.
//!
//! `RUSTFLAGS="--cfg cachalot_loom" cargo test -p cachalot-stampede --test interleavings --release`
#![cfg(cachalot_loom)]
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot_core::{Entropy, Timestamp};
use cachalot_stampede::{ErrorBackoff, Failures, Flights, Follow, Joined, Landing, Lead};
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

type Loads = Flights<u32, u32>;

/// Joins and, as a leader, loads: what a caller does. Counts the loads.
fn call(flights: &Loads, loads: &AtomicUsize) -> Landing<u32> {
    let follow = match flights.join(&1) {
        Joined::Lead(lead, follow) => {
            let load = loads.fetch_add(1, Ordering::SeqCst) as u32;
            lead.land(load);
            follow
        }
        Joined::Follow(follow) => follow,
    };
    block_on(follow.wait()).unwrap()
}

#[test]
fn whoever_joins_a_flight_gets_what_it_lands() {
    loom::model(|| {
        let flights = Loads::new();
        let loads = Arc::new(AtomicUsize::new(0));
        let other = thread::spawn({
            let (flights, loads) = (flights.clone(), loads.clone());
            move || call(&flights, &loads)
        });
        let mine = call(&flights, &loads);
        let theirs = other.join().unwrap();
        let loads = loads.load(Ordering::SeqCst);
        if loads == 1 {
            assert_eq!((mine, theirs), (Landing::Final(0), Landing::Final(0)));
        }
        assert!((1..=2).contains(&loads));
        assert!(flights.is_empty());
    });
}

#[test]
fn a_dropped_leader_wakes_its_follower_in_every_schedule() {
    loom::model(|| {
        let flights = Loads::new();
        let Joined::Lead(lead, first) = flights.join(&1) else { panic!("a fresh table") };
        drop(first);
        let follower = thread::spawn({
            let flights = flights.clone();
            move || match flights.join(&1) {
                Joined::Follow(follow) => Some(block_on(follow.wait()).unwrap()),
                Joined::Lead(..) => None,
            }
        });
        drop(lead);
        assert!(matches!(follower.join().unwrap(), Some(Landing::Abandoned) | None));
        assert!(flights.is_empty());
    });
}

#[test]
fn who_joins_after_a_void_never_gets_the_old_value() {
    after(|flights| drop(flights.void(&1)));
}

#[test]
fn who_joins_after_a_void_by_predicate_never_gets_the_old_value() {
    after(|flights| drop(flights.void_if(|key| *key == 1)));
}

fn after(void: fn(&Loads)) {
    loom::model(move || {
        let flights = Loads::new();
        let Joined::Lead(lead, _first) = flights.join(&1) else { panic!("a fresh table") };
        let leader = thread::spawn(move || lead.land(0));
        void(&flights);
        let after = match flights.join(&1) {
            Joined::Lead(lead, follow) => {
                lead.land(1);
                block_on(follow.wait()).unwrap()
            }
            Joined::Follow(_) => panic!("the old flight is detached"),
        };
        assert_eq!(after, Landing::Final(1));
        leader.join().unwrap();
        assert!(flights.is_empty());
    });
}

#[test]
fn a_follower_that_leaves_while_the_leader_lands_harms_nobody() {
    // Three threads: two preemptions explore it in seconds, all of them in minutes.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let flights = Loads::new();
        let Joined::Lead(lead, first) = flights.join(&1) else { panic!("a fresh table") };
        let Joined::Follow(passer_by) = flights.join(&1) else { panic!("it is being loaded") };
        let leaver = thread::spawn(move || {
            let mut wait = pin!(passer_by.wait());
            let waker = Waker::noop();
            let _: Poll<_> = wait.as_mut().poll(&mut Context::from_waker(waker));
        });
        let leader = thread::spawn(move || lead.land(7));
        assert_eq!(block_on(first.wait()), Ok(Landing::Final(7)));
        leaver.join().unwrap();
        leader.join().unwrap();
    });
}

/// Opens a flight that is too old for whoever joins at the time 11.
fn old_flight(flights: &Loads) -> (Lead<u32, u32>, Follow<u32>) {
    match flights.join_at(&1, Timestamp::from_millis(0), AGE) {
        Joined::Lead(lead, follow) => (lead, follow),
        Joined::Follow(_) => panic!("a fresh table"),
    }
}

const AGE: Duration = Duration::from_millis(10);
const LATER: Timestamp = Timestamp::from_millis(11);

#[test]
fn callers_of_an_overtaken_flight_get_what_lands_first_in_every_schedule() {
    loom::model(|| {
        let flights = Loads::new();
        let (hung, hung_share) = old_flight(&flights);
        let late = thread::spawn(move || {
            let stored = !hung.is_void();
            hung.land(0);
            stored
        });
        match flights.join_at(&1, LATER, AGE) {
            Joined::Lead(lead, follow) => {
                lead.land(1);
                assert_eq!(block_on(follow.wait()), Ok(Landing::Final(1)));
            }
            Joined::Follow(_) => panic!("it is too old"),
        }
        let got = block_on(hung_share.wait()).unwrap();
        late.join().unwrap();
        assert!(matches!(got, Landing::Final(0 | 1)), "{got:?}");
        assert!(flights.is_empty());
    });
}

#[test]
fn a_flight_is_overtaken_by_one_caller_only() {
    loom::model(|| {
        let flights = Loads::new();
        let (hung, _share) = old_flight(&flights);
        let loads = Arc::new(AtomicUsize::new(0));
        let call = |flights: &Loads, loads: &AtomicUsize| match flights.join_at(&1, LATER, AGE) {
            Joined::Lead(lead, _) => {
                loads.fetch_add(1, Ordering::SeqCst);
                Some(lead)
            }
            Joined::Follow(_) => None,
        };
        let other = thread::spawn({
            let (flights, loads) = (flights.clone(), loads.clone());
            move || call(&flights, &loads)
        });
        let mine = call(&flights, &loads);
        let theirs = other.join().unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert!(hung.is_void());
        drop((mine, theirs, hung));
        assert!(flights.is_empty());
    });
}

#[test]
fn a_load_is_given_up_only_when_nobody_is_left_and_then_nobody_joins_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let flights = Loads::new();
        let Joined::Lead(lead, first) = flights.join(&1) else { panic!("a fresh table") };
        let leaver = thread::spawn(move || drop(first));
        let newcomer = thread::spawn({
            let flights = flights.clone();
            move || match flights.join(&1) {
                Joined::Follow(follow) => {
                    let mut wait = pin!(follow.wait());
                    let seen = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(seen.is_pending(), "given up under a caller: {seen:?}");
                }
                Joined::Lead(lead, _) => lead.land(1),
            }
        });
        // In a schedule that loses the wake-up this never ends, and loom says so.
        block_on(lead.deserted());
        assert!(lead.is_void());
        drop(lead);
        leaver.join().unwrap();
        newcomer.join().unwrap();
        assert!(flights.is_empty());
    });
}

#[test]
fn a_failure_is_never_remembered_beyond_an_invalidation() {
    loom::model(|| {
        let (flights, entropy) = (Loads::new(), Entropy::seeded(1));
        let failures = Arc::new(Failures::new(ErrorBackoff::default()));
        let Joined::Lead(lead, _first) = flights.join(&1) else { panic!("a fresh table") };
        let load = thread::spawn({
            let failures = failures.clone();
            move || {
                failures.record_load(&lead, "down", LATER, &entropy);
                lead.land(0);
            }
        });
        flights.void(&1);
        failures.forget(&1);
        load.join().unwrap();
        assert!(failures.get(&1, LATER).is_none());
        assert!(failures.is_empty(LATER));
    });
}
