//! Every schedule of a few threads around one flight, by loom.
//!
//! `RUSTFLAGS="--cfg cachalot_loom" cargo test -p cachalot-stampede --test interleavings --release`
#![cfg(cachalot_loom)]
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::pin::pin;
use std::task::{Context, Poll};

use cachalot_stampede::{Flights, Joined, Landing};
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
    loom::model(|| {
        let flights = Loads::new();
        let Joined::Lead(lead, _first) = flights.join(&1) else { panic!("a fresh table") };
        let leader = thread::spawn(move || lead.land(0));
        flights.void(&1);
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
            let waker = std::task::Waker::noop();
            let _: Poll<_> = wait.as_mut().poll(&mut Context::from_waker(waker));
        });
        let leader = thread::spawn(move || lead.land(7));
        assert_eq!(block_on(first.wait()), Ok(Landing::Final(7)));
        leaver.join().unwrap();
        leader.join().unwrap();
    });
}
