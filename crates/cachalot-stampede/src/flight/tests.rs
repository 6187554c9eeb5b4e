use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::*;
use crate::{Reentrant, loading};

type Loads = Flights<&'static str, u32>;

fn lead(flights: &Loads, key: &'static str) -> (Lead<&'static str, u32>, Follow<u32>) {
    match flights.join(&key) {
        Joined::Lead(lead, follow) => (lead, follow),
        Joined::Follow(_) => panic!("{key} is being loaded already"),
    }
}

fn follow(flights: &Loads, key: &'static str) -> Follow<u32> {
    match flights.join(&key) {
        Joined::Lead(..) => panic!("nobody loads {key}"),
        Joined::Follow(follow) => follow,
    }
}

struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counting_waker() -> (std::sync::Arc<CountWakes>, Waker) {
    let wakes = std::sync::Arc::new(CountWakes(AtomicUsize::new(0)));
    (wakes.clone(), wakes.into())
}

#[tokio::test]
async fn one_load_serves_all_who_joined() {
    let flights = Loads::new();
    let (lead, first) = lead(&flights, "k");
    let others: Vec<_> = (0..100).map(|_| follow(&flights, "k")).collect();
    lead.land(7);
    assert_eq!(first.wait().await, Ok(Landing::Final(7)));
    for other in others {
        assert_eq!(other.wait().await, Ok(Landing::Final(7)));
    }
    assert!(flights.is_empty());
}

#[tokio::test]
async fn keys_do_not_share_flights() {
    let flights = Loads::new();
    let (a, a_share) = lead(&flights, "a");
    let (b, b_share) = lead(&flights, "b");
    assert_eq!(flights.len(), 2);
    b.land(2);
    a.land(1);
    assert_eq!(a_share.wait().await, Ok(Landing::Final(1)));
    assert_eq!(b_share.wait().await, Ok(Landing::Final(2)));
}

#[tokio::test]
async fn a_dropped_leader_is_told_to_its_followers() {
    let flights = Loads::new();
    let (leader, share) = lead(&flights, "k");
    drop(leader);
    assert_eq!(share.wait().await, Ok(Landing::Abandoned));
    let _the_next_one_leads = lead(&flights, "k");
}

#[test]
fn dropping_the_first_caller_disturbs_nobody() {
    let flights = Loads::new();
    let (leader, first) = lead(&flights, "k");
    let mut second = follow(&flights, "k");
    let (wakes, waker) = counting_waker();
    let cx = Context::from_waker(&waker);
    assert!(second.poll(&cx, |_| false).is_pending());
    drop(first);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    leader.land(3);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(second.poll(&cx, |_| false), Poll::Ready(Landing::Final(3)));
}

#[tokio::test]
async fn who_comes_after_a_void_opens_a_new_flight() {
    let flights = Loads::new();
    let (old, old_share) = lead(&flights, "k");
    assert!(flights.void("k"));
    assert!(old.is_void());
    assert!(!flights.void("k"));
    let (new, new_share) = lead(&flights, "k");
    old.land(1);
    assert_eq!(flights.len(), 1, "the old flight must not remove the new one");
    new.land(2);
    assert_eq!(old_share.wait().await, Ok(Landing::Final(1)));
    assert_eq!(new_share.wait().await, Ok(Landing::Final(2)));
}

#[test]
fn void_all_detaches_every_flight() {
    let flights = Loads::new();
    let leads: Vec<_> = ["a", "b", "c"].map(|key| lead(&flights, key).0).into_iter().collect();
    flights.void_all();
    assert!(leads.iter().all(Lead::is_void));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn void_if_detaches_the_flights_of_the_keys_it_is_true_of_and_no_other() {
    let flights = Flights::<u32, u32>::new();
    let (leads, shares): (Vec<_>, Vec<_>) = (0..100)
        .map(|key| match flights.join(&key) {
            Joined::Lead(lead, share) => (lead, share),
            Joined::Follow(_) => panic!("a fresh key"),
        })
        .unzip();
    assert_eq!(flights.void_if(|key| key % 3 == 0), 34);
    assert_eq!(flights.void_if(|key| key % 3 == 0), 0, "they are detached already");
    assert_eq!(flights.len(), 66);
    for lead in &leads {
        assert_eq!(lead.is_void(), lead.key() % 3 == 0, "{}", lead.key());
        assert_eq!(matches!(flights.join(lead.key()), Joined::Lead(..)), lead.is_void());
    }
    for (lead, share) in leads.into_iter().zip(shares) {
        let key = *lead.key();
        lead.land(key);
        assert_eq!(share.wait().await, Ok(Landing::Final(key)), "also who was detached gets what it lands");
    }
    assert!(flights.is_empty());
}

#[test]
fn a_test_that_panics_leaves_the_table_in_order() {
    let flights = Flights::<u32, u32>::new();
    let leads: Vec<_> = (0..100).map(|key| flights.join(&key)).collect();
    let voiding = || flights.void_if(|key| if *key == 50 { panic!("on purpose") } else { true });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(voiding)).is_err());
    assert!(matches!(flights.join(&50), Joined::Follow(_)));
    let in_table = leads.iter().filter(|joined| matches!(joined, Joined::Lead(lead, _) if !lead.is_void()));
    assert_eq!(in_table.count(), flights.len(), "who is out of the table knows it");
}

#[tokio::test]
async fn an_interim_goes_only_to_those_who_want_it() {
    let flights = Loads::new();
    let (leader, patient) = lead(&flights, "k");
    let eager = follow(&flights, "k");
    leader.offer(1);
    assert_eq!(eager.wait_or_interim(|offer| *offer == 1).await, Ok(Landing::Interim(1)));
    leader.land(2);
    assert_eq!(patient.wait().await, Ok(Landing::Final(2)));
}

#[test]
fn an_offer_takes_nobodys_place() {
    let flights = Loads::new();
    let (leader, mut first) = lead(&flights, "k");
    let mut second = follow(&flights, "k");
    let (first_wakes, first_waker) = counting_waker();
    let (second_wakes, second_waker) = counting_waker();
    assert!(first.poll(&Context::from_waker(&first_waker), |_| false).is_pending());
    leader.offer(1);
    assert!(second.poll(&Context::from_waker(&second_waker), |_| false).is_pending());
    assert!(first.poll(&Context::from_waker(&first_waker), |_| false).is_pending());
    leader.land(2);
    assert_eq!(first_wakes.0.load(Ordering::SeqCst), 2, "once for the offer, once for the landing");
    assert_eq!(second_wakes.0.load(Ordering::SeqCst), 1);
}

#[test]
fn places_of_followers_that_left_are_used_again() {
    let flights = Loads::new();
    let (_leader, _first) = lead(&flights, "k");
    let waker = counting_waker().1;
    for _ in 0..1000 {
        let mut passer_by = follow(&flights, "k");
        assert!(passer_by.poll(&Context::from_waker(&waker), |_| false).is_pending());
    }
    let cell = follow(&flights, "k").cell().clone();
    assert_eq!(lock(&cell.state).wakers.places.len(), 1);
}

/// Every end that a flight may have, over `keys` keys.
fn storm(keys: u32) {
    let flights: Flights<u32, u32> = Flights::new();
    for key in 0..keys {
        let Joined::Lead(leader, share) = flights.join_at(&key, at(0), AGE) else { panic!("a fresh key") };
        match key % 5 {
            0 => leader.land(key),
            1 => drop(leader),
            2 => {
                drop(share);
                let mut deserted = Box::pin(leader.deserted());
                assert!(deserted.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
                continue;
            }
            3 => assert!(flights.void(&key)),
            _ => {
                let Joined::Lead(next, _) = flights.join_at(&key, at(11), AGE) else {
                    panic!("it is too old")
                };
                next.land(key);
            }
        }
    }
    assert!(flights.is_empty());
    let held: usize = flights.table.shards.iter().map(|shard| lock(shard).capacity()).sum();
    assert!(held < 1_000, "room for {held} keys is kept");
}

#[test]
fn a_storm_over_ten_million_keys_leaves_nothing_behind() {
    storm(10_000_000);
}

#[tokio::test]
async fn a_loader_that_waits_for_its_own_key_is_told_at_once() {
    let flights = Loads::new();
    let (leader, share) = lead(&flights, "k");
    let asked = loading(leader.id(), follow(&flights, "k").wait()).await;
    assert_eq!(asked, Err(Reentrant));
    leader.land(1);
    assert_eq!(share.wait().await, Ok(Landing::Final(1)));
}

#[tokio::test]
async fn a_cycle_across_keys_and_tables_is_told_at_once() {
    let (one, two) = (Loads::new(), Loads::new());
    let (a, _a_share) = lead(&one, "a");
    let (b, b_share) = lead(&two, "b");
    let (a_id, b_id) = (a.id(), b.id());
    // The loader of a waits for b.
    let a_waits = tokio::spawn(loading(a_id, b_share.wait()));
    tokio::task::yield_now().await;
    // The loader of b asks for a.
    let asked = loading(b_id, follow(&one, "a").wait()).await;
    assert_eq!(asked, Err(Reentrant));
    b.land(2);
    assert_eq!(a_waits.await.unwrap(), Ok(Landing::Final(2)));
    a.land(1);
}

#[tokio::test]
async fn two_loaders_may_wait_for_the_same_third() {
    let flights = Loads::new();
    let (a, _a) = lead(&flights, "a");
    let (b, _b) = lead(&flights, "b");
    let (c, c_share) = lead(&flights, "c");
    let a_waits = tokio::spawn(loading(a.id(), c_share.wait()));
    let b_waits = tokio::spawn(loading(b.id(), follow(&flights, "c").wait()));
    tokio::task::yield_now().await;
    c.land(3);
    assert_eq!(a_waits.await.unwrap(), Ok(Landing::Final(3)));
    assert_eq!(b_waits.await.unwrap(), Ok(Landing::Final(3)));
}

const AGE: Duration = Duration::from_secs(10);

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + second * 1_000)
}

fn lead_at(flights: &Loads, second: u64) -> (Lead<&'static str, u32>, Follow<u32>) {
    match flights.join_at(&"k", at(second), AGE) {
        Joined::Lead(lead, follow) => (lead, follow),
        Joined::Follow(_) => panic!("a younger flight is there"),
    }
}

#[tokio::test]
async fn a_flight_is_joined_until_it_is_too_old_and_then_overtaken() {
    let flights = Loads::new();
    let (hung, hung_share) = lead_at(&flights, 0);
    assert!(matches!(flights.join_at(&"k", at(10), AGE), Joined::Follow(_)));
    let (new, new_share) = lead_at(&flights, 11);
    assert!(hung.is_void(), "its result must not be stored");
    assert!(!new.is_void());
    assert_eq!(flights.len(), 1);
    new.land(2);
    assert_eq!(new_share.wait().await, Ok(Landing::Final(2)));
    assert_eq!(hung_share.wait().await, Ok(Landing::Final(2)), "its callers need not hang with it");
    hung.land(1);
    assert!(flights.is_empty());
}

#[test]
fn a_hung_leader_learns_that_its_callers_have_been_served() {
    let flights = Loads::new();
    let (hung, _hung_share) = lead_at(&flights, 0);
    let (wakes, waker) = counting_waker();
    let mut deserted = Box::pin(hung.deserted());
    assert!(deserted.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (next, _) = lead_at(&flights, 11);
    next.land(2);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(deserted.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

#[tokio::test]
async fn an_overtaken_flight_that_lands_after_all_serves_its_own_callers_only() {
    let flights = Loads::new();
    let (slow, slow_share) = lead_at(&flights, 0);
    let (new, new_share) = lead_at(&flights, 11);
    slow.land(1);
    assert_eq!(slow_share.wait().await, Ok(Landing::Final(1)));
    assert_eq!(flights.len(), 1, "the new flight goes on");
    new.land(2);
    assert_eq!(new_share.wait().await, Ok(Landing::Final(2)));
}

#[tokio::test]
async fn who_cannot_use_what_overtook_its_flight_may_insist_on_its_own() {
    let flights = Loads::new();
    for lands in [true, false] {
        let (hung, mut share) = lead_at(&flights, 0);
        let (new, _) = lead_at(&flights, 11);
        assert!(!share.insist(), "nothing has landed yet");
        new.land(2);
        let landing = poll_fn(|cx| share.poll_wait(cx, |_| false)).await;
        assert_eq!(landing, Ok(Landing::Final(2)));
        assert!(share.insist());
        let mut insisting = Box::pin(poll_fn(|cx| share.poll_wait(cx, |_| false)));
        let (wakes, waker) = counting_waker();
        assert!(insisting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        if lands {
            hung.land(1)
        } else {
            drop(hung)
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        let own = if lands { Landing::Final(1) } else { Landing::Abandoned };
        assert_eq!(insisting.await, Ok(own));
        assert!(!share.insist(), "there is no third answer");
    }
    let (leader, mut share) = lead_at(&flights, 0);
    leader.land(1);
    assert_eq!(poll_fn(|cx| share.poll_wait(cx, |_| false)).await, Ok(Landing::Final(1)));
    assert!(!share.insist(), "that was its own");
    assert!(flights.is_empty());
}

#[test]
fn a_flight_is_given_up_only_if_nobody_has_joined() {
    let flights = Loads::new();
    let (leader, share) = lead(&flights, "k");
    let Err(leader) = leader.give_up() else { panic!("its own share waits") };
    drop(share);
    let joined = follow(&flights, "k");
    let Err(leader) = leader.give_up() else { panic!("somebody has joined") };
    drop(joined);
    assert!(leader.give_up().is_ok());
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_row_of_hung_flights_is_served_by_the_one_that_lands() {
    let flights = Loads::new();
    let (hung, shares): (Vec<_>, Vec<_>) = (0..1_000).map(|turn| lead_at(&flights, turn * 11)).unzip();
    let (last, _) = lead_at(&flights, 11_000);
    last.land(7);
    for share in shares {
        assert_eq!(share.wait().await, Ok(Landing::Final(7)));
    }
    drop(hung);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn callers_of_a_hung_flight_stay_with_it_if_the_next_is_abandoned() {
    let flights = Loads::new();
    let (hung, hung_share) = lead_at(&flights, 0);
    let (next, next_share) = lead_at(&flights, 11);
    drop(next);
    assert_eq!(next_share.wait().await, Ok(Landing::Abandoned));
    hung.land(1);
    assert_eq!(hung_share.wait().await, Ok(Landing::Final(1)));
}

#[test]
fn a_flight_without_a_time_never_grows_old() {
    let flights = Loads::new();
    let (_leader, _share) = lead(&flights, "k");
    assert!(matches!(flights.join_at(&"k", at(1 << 40), Duration::ZERO), Joined::Follow(_)));
    let _young = follow(&flights, "k");
}

#[test]
fn a_clock_that_goes_back_overtakes_nothing() {
    let flights = Loads::new();
    let (_leader, _share) = lead_at(&flights, 100);
    assert!(matches!(flights.join_at(&"k", at(0), AGE), Joined::Follow(_)));
}

#[test]
fn waiting_callers_are_counted_until_they_leave() {
    let flights = Loads::new();
    assert_eq!(flights.waiting("k"), 0);
    let (leader, first) = lead(&flights, "k");
    let second = follow(&flights, "k");
    assert_eq!((flights.waiting("k"), leader.waiting()), (2, 2));
    drop(first);
    drop(second.wait());
    assert_eq!(leader.waiting(), 0);
    assert!(leader.is_deserted());
}

#[test]
fn a_follower_that_leaves_takes_its_waker_along_at_once() {
    let flights = Loads::new();
    let (_leader, _first) = lead(&flights, "k");
    let (wakes, waker) = counting_waker();
    let mut wait = Box::pin(follow(&flights, "k").wait());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(std::sync::Arc::strong_count(&wakes), 3);
    drop(wait);
    assert_eq!(std::sync::Arc::strong_count(&wakes), 2);
}

#[test]
fn the_leader_learns_that_its_last_caller_has_left_and_nobody_joins_it_any_more() {
    let flights = Loads::new();
    let (leader, first) = lead(&flights, "k");
    let second = follow(&flights, "k");
    let (wakes, waker) = counting_waker();
    let mut cx = Context::from_waker(&waker);
    {
        let mut deserted = Box::pin(leader.deserted());
        assert!(deserted.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "one is left");
        drop(second);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(deserted.as_mut().poll(&mut cx).is_ready());
    }
    assert!(leader.is_void());
    assert!(flights.is_empty());
    let _the_next_one_leads = lead(&flights, "k");
}

#[test]
fn a_caller_that_joins_just_in_time_keeps_the_load_alive() {
    let flights = Loads::new();
    let (leader, first) = lead(&flights, "k");
    let waker = counting_waker().1;
    let mut deserted = Box::pin(leader.deserted());
    assert!(deserted.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(first);
    let _late = follow(&flights, "k");
    assert!(deserted.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(deserted);
    assert!(!leader.is_void());
}

#[test]
fn who_watches_whether_a_flight_is_deserted_is_woken_and_detaches_nothing() {
    let flights = Loads::new();
    let (leader, first) = lead(&flights, "k");
    let (wakes, waker) = counting_waker();
    assert!(!leader.watch_deserted(&Context::from_waker(&waker)));
    drop(first);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(leader.watch_deserted(&Context::from_waker(&waker)));
    assert!(!leader.is_void());
    let _joined = follow(&flights, "k");
    assert!(!leader.watch_deserted(&Context::from_waker(&waker)));
}
