//! Nodes that are away, for one process or for all.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use cachalot_core::{
    Backend, Depth, ErrorKind, Key, KeyPattern, Namespace, Nonce, Pattern, SweepCursor, TagToken, Token,
};
use cachalot_ring::{Failover, Health, Shard, Sharded};
use cachalot_testkit::{Fault, Faulty, Operation, block_on};

use crate::support::{Fleet, HOUR, SECOND, key, key_at, name, read};

/// Has the way to a node fail until it is ejected.
pub(crate) async fn eject(fleet: &Fleet, tier: &Sharded<Faulty>, at: usize) {
    fleet.ways[at].down();
    let key = key_at(tier, at);
    for _ in 0..5 {
        let _ = tier.get(&key).await;
    }
    assert!(tier.health()[at].is_ejected);
}

/// Lets time pass until a probe is due, has a call find that, and lets it run.
pub(crate) async fn probe(fleet: &Fleet, tier: &Sharded<Faulty>, at: usize) {
    fleet.time.advance(10 * SECOND);
    let _ = tier.get(&key_at(tier, at)).await;
    fleet.tasks.run().await;
}

fn namespace() -> Namespace {
    Namespace::new("users").unwrap()
}

#[test]
fn an_ejected_node_is_not_asked_and_its_keys_are_misses() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let (away, here) = (key_at(&tier, 0), key_at(&tier, 1));
        fleet.fill(&tier, &away, "away").await;
        fleet.fill(&tier, &here, "here").await;
        eject(&fleet, &tier, 0).await;
        let calls = fleet.calls(0);
        assert_eq!(read(&tier, &away).await, None);
        assert_eq!(read(&tier, &here).await, Some("here".into()));
        let records = tier.get_many(&[away.clone(), here.clone()]).await;
        assert!(matches!(records[0], Ok(None)) && matches!(records[1], Ok(Some(_))));
        let leases = tier.leases().unwrap();
        let token = Token::draw(&fleet.entropy);
        let refused = leases.get_or_lease(&away, token, SECOND, None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "so the cache loads, and stores nothing below");
        for error in [
            tier.remove(&away).await.unwrap_err(),
            tier.remove_many(std::slice::from_ref(&away)).await.remove(0).unwrap_err(),
            tier.expire(&away, HOUR).await.unwrap_err(),
            leases.hold(&away, token, SECOND).await.unwrap_err(),
            tier.versions().unwrap().raise(&away, 1, HOUR).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        assert_eq!(fleet.calls(0), calls, "none of this costs a round trip");
    });
}

#[test]
fn failures_that_are_no_row_eject_nobody() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let key = key_at(&tier, 0);
        for _ in 0..20 {
            for _ in 0..4 {
                fleet.ways[0].next(Fault::Refuse);
                assert!(tier.get(&key).await.is_err());
            }
            assert!(tier.get(&key).await.is_ok());
        }
        assert!(!tier.health()[0].is_ejected);
    });
}

#[test]
fn a_node_is_taken_back_after_good_probes_in_a_row() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        eject(&fleet, &tier, 0).await;
        // Too early for a probe: nothing is sent.
        let calls = fleet.calls(0);
        assert!(tier.get(&key_at(&tier, 0)).await.unwrap().is_none());
        assert_eq!((fleet.tasks.waiting(), fleet.calls(0)), (0, calls));
        probe(&fleet, &tier, 0).await;
        assert_eq!(fleet.calls(0), calls + 1, "one probe, which is refused");
        fleet.ways[0].up();
        probe(&fleet, &tier, 0).await;
        probe(&fleet, &tier, 0).await;
        fleet.ways[0].next(Fault::Refuse);
        probe(&fleet, &tier, 0).await;
        for _ in 0..3 {
            assert!(tier.health()[0].is_ejected, "the row has begun anew");
            probe(&fleet, &tier, 0).await;
        }
        assert!(!tier.health()[0].is_ejected);
        assert_eq!(fleet.ways[0].calls_of(Operation::Get), 5 + 7);
    });
}

#[test]
fn a_probe_that_is_lost_counts_as_a_bad_one() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().health(Health::default().probes(1)).build().unwrap();
        eject(&fleet, &tier, 0).await;
        fleet.ways[0].up();
        fleet.time.advance(10 * SECOND);
        let _ = tier.get(&key_at(&tier, 0)).await;
        fleet.tasks.forget();
        assert!(tier.health()[0].is_ejected);
        probe(&fleet, &tier, 0).await;
        assert!(!tier.health()[0].is_ejected, "another one is sent");
    });
}

#[test]
fn an_ejection_and_a_return_are_turns_and_a_restart_is_another_incarnation() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let (turns, incarnation) = (tier.turns(), tier.incarnation());
        eject(&fleet, &tier, 0).await;
        let out = tier.turns();
        assert!(out > turns && tier.incarnation() == incarnation);
        fleet.ways[0].up();
        for _ in 0..3 {
            probe(&fleet, &tier, 0).await;
        }
        let back = tier.turns();
        assert!(back > out && tier.incarnation() == incarnation);
        fleet.servers[1].restore(&fleet.servers[1].snapshot());
        assert_eq!(tier.turns(), back);
        assert_ne!(tier.incarnation(), incarnation);
    });
}

#[test]
fn a_turn_of_a_shard_is_a_turn_and_so_it_stays_when_the_shard_has_left() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let turns = tier.turns();
        fleet.servers[2].turn();
        assert_eq!(tier.turns(), turns + 1);
        let left = (0..2).map(|at| Shard::new(name(at), fleet.ways[at].clone()));
        tier.change(left, SECOND).unwrap();
        fleet.time.advance(10 * SECOND);
        let _ = tier.get(&key(1)).await;
        assert!(tier.turns() > turns);
    });
}

#[test]
fn who_looks_asks_each_shard_and_hears_of_one_that_is_away() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        tier.look(&key(1)).await.unwrap();
        assert_eq!([fleet.calls(0), fleet.calls(1), fleet.calls(2)], [1, 1, 1]);
        fleet.ways[2].down();
        assert_eq!(tier.look(&key(1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
        eject(&fleet, &tier, 2).await;
        assert_eq!(
            tier.look(&key(1)).await.unwrap_err().kind(),
            ErrorKind::Unavailable,
            "not asked, and away"
        );
    });
}

#[test]
fn a_call_that_is_given_up_after_some_time_is_a_failure() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        (0..10).for_each(|_| give_up_after(&fleet, &tier, Duration::from_millis(249)));
        assert!(!tier.health()[0].is_ejected);
        (0..5).for_each(|_| give_up_after(&fleet, &tier, Duration::from_millis(250)));
        assert!(tier.health()[0].is_ejected);
    });
}

#[test]
fn a_caller_that_waits_less_than_the_patience_ejects_a_node_that_hangs_too() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        tier.bound(Duration::from_millis(100));
        tier.bound(HOUR);
        (0..10).for_each(|_| give_up_after(&fleet, &tier, Duration::from_millis(74)));
        assert!(!tier.health()[0].is_ejected);
        (0..5).for_each(|_| give_up_after(&fleet, &tier, Duration::from_millis(75)));
        assert!(tier.health()[0].is_ejected);
    });
}

/// A call to the first node, which hangs.
fn give_up_after(fleet: &Fleet, tier: &Sharded<Faulty>, time: Duration) {
    let key = key_at(tier, 0);
    fleet.ways[0].next(Fault::Delay(HOUR));
    let mut call = pin!(tier.get(&key));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    fleet.time.advance(time);
}

#[test]
fn what_one_process_removes_another_that_ejected_the_node_does_not_bring_back() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let other = fleet.builder_by(&fleet.other_ways()).build().unwrap();
        let key = key_at(&tier, 0);
        fleet.fill(&tier, &key, "old").await;
        eject(&fleet, &tier, 0).await;
        assert!(tier.remove(&key).await.is_err(), "a removal here is not done, and kept by the cache");
        other.remove(&key).await.unwrap();
        fleet.ways[0].up();
        for _ in 0..3 {
            probe(&fleet, &tier, 0).await;
        }
        assert_eq!(read(&tier, &key).await, None);
    });
}

#[test]
fn a_lease_that_was_given_before_an_ejection_stores_nowhere_else() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let key = key_at(&tier, 0);
        let token = fleet.lease(&tier, &key).await.unwrap();
        eject(&fleet, &tier, 0).await;
        let calls: Vec<usize> = (0..3).map(|at| fleet.calls(at)).collect();
        let stored = tier.leases().unwrap().put_leased(&key, token, fleet.put("v")).await.unwrap();
        assert_eq!(stored, cachalot_core::PutReply::Lost);
        assert_eq!(calls, (0..3).map(|at| fleet.calls(at)).collect::<Vec<_>>());
    });
}

#[test]
fn a_sweep_fails_while_a_node_is_away() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        eject(&fleet, &tier, 1).await;
        let all = Pattern::any().within(&namespace());
        assert_eq!(sweep(&tier, &all).await.unwrap_err().kind(), ErrorKind::Unavailable);
    });
}

async fn sweep(tier: &Sharded<Faulty>, pattern: &KeyPattern) -> cachalot_core::Result<()> {
    let mut from = Some(SweepCursor::START);
    while let Some(at) = from {
        from = tier.sweep(pattern, &at).await?.next;
    }
    Ok(())
}

#[test]
fn a_tag_whose_node_is_away_fits_nothing_and_is_not_removed() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let (away, here) = (key_at(&tier, 0), key_at(&tier, 1));
        let (tags, names) = (tier.tags().unwrap(), [here.clone(), away.clone()]);
        let fresh = || [(); 2].map(|()| TagToken::draw(&fleet.entropy));
        let pinned = tags.pin_tags(&names, &fresh(), HOUR).await.unwrap();
        eject(&fleet, &tier, 0).await;
        assert_eq!(tags.tag_tokens(&names).await.unwrap(), [Some(pinned[0]), None]);
        assert!(tags.tag_tokens(&[away]).await.is_err(), "nobody answers");
        assert!(tags.pin_tags(&names, &fresh(), HOUR).await.is_err());
        assert!(tags.rotate_tags(&names, &fresh(), Depth::Remove, HOUR).await.is_err());
        let before = tags.tag_tokens(std::slice::from_ref(&here)).await.unwrap();
        let reversed = [names[1].clone(), names[0].clone()];
        assert!(tags.rotate_tags(&reversed, &fresh(), Depth::Remove, HOUR).await.is_err());
        assert_eq!(tags.tag_tokens(&[here]).await.unwrap(), before, "the first name comes before all others");
    });
}

#[test]
fn the_members_of_a_list_that_is_away_are_an_error_and_not_nobody() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let registry = (0..).map(|n| Namespace::new(&format!("cache-{n}")).unwrap().members());
        let registry: Key =
            registry.into_iter().find(|it| tier.owners(it)[0] == crate::support::name(2)).unwrap();
        tier.members().unwrap().roll(&registry).await.unwrap();
        eject(&fleet, &tier, 2).await;
        assert_eq!(tier.members().unwrap().roll(&registry).await.unwrap_err().kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn a_touch_of_what_is_away_prolongs_nothing() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        eject(&fleet, &tier, 0).await;
        let key = key_at(&tier, 0);
        assert!(!tier.touch(&key, Nonce::draw(&fleet.entropy), HOUR).await.unwrap());
    });
}

#[test]
fn health_and_copies_have_to_make_sense() {
    let fleet = Fleet::of(2);
    let health = Health::default();
    let bad = [
        fleet.builder().copies(0).build(),
        fleet.builder().health(health.clone().failures(0)).build(),
        fleet.builder().health(health.clone().probes(0)).build(),
        fleet.builder().health(health.pause(SECOND, Duration::from_millis(1))).build(),
        fleet.builder_by(&[]).build(),
        fleet
            .builder()
            .shard(cachalot_ring::Shard::new(crate::support::name(0), fleet.ways[0].clone()))
            .build(),
    ];
    assert!(bad.into_iter().all(|it| it.is_err_and(|error| error.kind() == ErrorKind::Config)));
}

#[test]
fn a_probe_that_hangs_is_followed_by_another() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().health(Health::default().probes(1)).build().unwrap();
        eject(&fleet, &tier, 0).await;
        fleet.ways[0].up();
        fleet.time.advance(10 * SECOND);
        let _ = tier.get(&key_at(&tier, 0)).await;
        assert_eq!(fleet.tasks.waiting(), 1, "and it does not run");
        fleet.time.advance(10 * SECOND);
        let _ = tier.get(&key_at(&tier, 0)).await;
        assert_eq!(fleet.tasks.waiting(), 2);
        fleet.tasks.run().await;
        assert!(!tier.health()[0].is_ejected);
    });
}

#[test]
fn what_is_kept_for_no_time_is_refused() {
    let fleet = Fleet::of(2);
    let none = Duration::ZERO;
    let bad = [
        fleet.builder().failover(Failover::NextNode { ttl: none }).build(),
        fleet.builder().longest_life(Duration::from_micros(999)).build(),
    ];
    assert!(bad.into_iter().all(|it| it.is_err_and(|error| error.kind() == ErrorKind::Config)));
    let tier = fleet.builder().build().unwrap();
    let shard = cachalot_ring::Shard::new(crate::support::name(0), fleet.ways[0].clone());
    assert_eq!(tier.change([shard], none).unwrap_err().kind(), ErrorKind::Config);
    assert!(!tier.is_changing());
}

#[test]
fn it_says_that_a_record_may_lie_at_several_places() {
    assert!(Fleet::of(2).builder().build().unwrap().info().is_scattered);
}
