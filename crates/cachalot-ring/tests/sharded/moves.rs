//! Shards that come and go.

use std::time::Duration;

use cachalot_core::{
    Backend, Depth, ErrorKind, Held, Key, LeaseReply, Member, Namespace, Pattern, PublisherId, PutReply,
    SweepCursor, TagToken, Token,
};
use cachalot_ring::{Failover, Node, Shard, Sharded};
use cachalot_testkit::{Faulty, block_on};

use crate::support::{Fleet, HOUR, SECOND, key, name, read};

const OVERLAP: Duration = Duration::from_secs(10);

/// The shards of these numbers.
fn shards(fleet: &Fleet, numbers: impl IntoIterator<Item = usize>) -> Vec<Shard<Faulty>> {
    numbers.into_iter().map(|at| Shard::new(name(at), fleet.ways[at].clone())).collect()
}

fn over(fleet: &Fleet, count: usize) -> Sharded<Faulty> {
    fleet.builder_by(&fleet.ways[..count]).build().unwrap()
}

/// Goes from the first three servers to all four, to the end.
fn grow(fleet: &Fleet, tier: &Sharded<Faulty>) {
    tier.change(shards(fleet, 0..4), OVERLAP).unwrap();
    pass(fleet, tier);
}

fn pass(fleet: &Fleet, tier: &Sharded<Faulty>) {
    for _ in 0..2 {
        assert!(tier.is_changing());
        fleet.time.advance(OVERLAP);
    }
    assert!(!tier.is_changing());
}

/// A key that belongs to the fourth server once it is there, and where it was before.
fn moving(fleet: &Fleet) -> (Key, usize) {
    let (before, after) = (over(fleet, 3), over(fleet, 4));
    let key = (0..).map(key).find(|key| after.owners(key) == [name(3)]).unwrap();
    let was = (0..3).find(|at| before.owners(&key) == [name(*at)]).unwrap();
    (key, was)
}

#[test]
fn the_predicted_share_moves_and_only_to_the_new_node() {
    let fleet = Fleet::of(4);
    let tier = over(&fleet, 3);
    let keys: Vec<Key> = (0..20_000).map(key).collect();
    let before: Vec<Vec<String>> = keys.iter().map(|key| tier.owners(key)).collect();
    grow(&fleet, &tier);
    let moved = keys.iter().zip(before).filter(|(key, before)| tier.owners(key) != *before);
    let moved: Vec<&Key> = moved.map(|(key, _)| key).collect();
    assert!(moved.iter().all(|key| tier.owners(key) == [name(3)]));
    let share = moved.len() as f64 / keys.len() as f64;
    assert!((share - 0.25).abs() < 0.01, "a quarter: {share}");
}

#[test]
fn the_old_owner_is_read_first_then_the_new_one() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let (key, was) = moving(&fleet);
        fleet.fill(&tier, &key, "old owner").await;
        tier.change(shards(&fleet, 0..4), OVERLAP).unwrap();
        assert_eq!(read(&tier, &key).await, Some("old owner".into()));
        fleet.time.advance(OVERLAP - Duration::from_millis(1));
        assert_eq!(read(&tier, &key).await, Some("old owner".into()));
        fleet.time.advance(Duration::from_millis(1));
        assert_eq!(read(&tier, &key).await, None);
        fleet.fill(&tier, &key, "new owner").await;
        assert_eq!(fleet.holders(&key).await, [was, 3]);
        assert_eq!(read(&tier, &key).await, Some("new owner".into()));
    });
}

#[test]
fn a_removal_reaches_both_owners_until_the_move_is_over() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let (key, was) = moving(&fleet);
        tier.change(shards(&fleet, 0..4), OVERLAP).unwrap();
        for _ in 0..2 {
            for server in [was, 3] {
                let token = Token::draw(&fleet.entropy);
                let leases = fleet.servers[server].leases().unwrap();
                leases.get_or_lease(&key, token, HOUR, None).await.unwrap();
                leases.put_leased(&key, token, fleet.put("v")).await.unwrap();
            }
            tier.remove(&key).await.unwrap();
            assert_eq!(fleet.holders(&key).await, [0; 0]);
            for away in [was, 3] {
                fleet.ways[away].down();
                assert!(tier.remove(&key).await.is_err() && tier.expire(&key, HOUR).await.is_err());
                let token = Token::draw(&fleet.entropy);
                assert!(tier.leases().unwrap().hold(&key, token, SECOND).await.is_err());
                assert!(tier.versions().unwrap().raise(&key, 1, HOUR).await.is_err());
                fleet.ways[away].up();
                tier.remove(&key).await.unwrap();
            }
            fleet.time.advance(OVERLAP);
        }
    });
}

#[test]
fn a_writers_hold_keeps_readers_out_of_either_owner() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let ahead = fleet.builder_by(&fleet.other_ways()[..3]).build().unwrap();
        let (key, _) = moving(&fleet);
        ahead.change(shards(&fleet, 0..4), OVERLAP).unwrap();
        fleet.time.advance(OVERLAP - SECOND);
        tier.change(shards(&fleet, 0..4), OVERLAP).unwrap();
        fleet.time.advance(SECOND);
        // The one reads the new owner already, and has begun to load.
        let token = fleet.lease(&ahead, &key).await.unwrap();
        // The other one writes, and still reads the old one.
        let (leases, hold) = (tier.leases().unwrap(), Token::draw(&fleet.entropy));
        assert_eq!(leases.hold(&key, hold, 5 * SECOND).await.unwrap(), Held::Held);
        let put = fleet.put("loaded before the write");
        assert_ne!(ahead.leases().unwrap().put_leased(&key, token, put).await.unwrap(), PutReply::Stored);
        let reply = ahead.leases().unwrap().get_or_lease(&key, token, SECOND, None).await.unwrap();
        assert!(matches!(reply, LeaseReply::Busy { .. }));
        assert_eq!(leases.put_held(&key, hold, fleet.put("written")).await.unwrap(), PutReply::Stored);
        assert!(fleet.lease(&ahead, &key).await.is_some(), "and lets them in afterwards");
    });
}

#[test]
fn two_writers_that_overlap_at_one_owner_store_at_none() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let behind = fleet.builder_by(&fleet.other_ways()[..3]).build().unwrap();
        let (key, _) = moving(&fleet);
        tier.change(shards(&fleet, 0..4), OVERLAP).unwrap();
        fleet.time.advance(OVERLAP);
        let (one, other) = (Token::draw(&fleet.entropy), Token::draw(&fleet.entropy));
        assert_eq!(behind.leases().unwrap().hold(&key, one, 5 * SECOND).await.unwrap(), Held::Held);
        let leases = tier.leases().unwrap();
        assert_eq!(leases.hold(&key, other, 5 * SECOND).await.unwrap(), Held::Overlap);
        assert_eq!(leases.put_held(&key, other, fleet.put("v")).await.unwrap(), PutReply::Lost);
        assert_eq!(fleet.holders(&key).await, [0; 0]);
    });
}

#[test]
fn a_key_that_returns_to_its_former_owner_is_not_what_it_was() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let (key, was) = moving(&fleet);
        fleet.fill(&tier, &key, "old").await;
        grow(&fleet, &tier);
        assert_eq!(fleet.holders(&key).await, [was], "nobody has told it");
        // Another process, which has started since.
        let former = (0..3).map(|at| Node::new(name(at)));
        let later = fleet.builder_by(&fleet.other_ways()).formerly(former).build().unwrap();
        later.remove(&key).await.unwrap();
        assert_eq!(fleet.holders(&key).await, [0; 0]);
        for tier in [&tier, &later] {
            tier.change(shards(&fleet, 0..3), OVERLAP).unwrap();
        }
        fleet.time.advance(OVERLAP);
        assert_eq!(read(&tier, &key).await, None);
        // The same of tags and floors.
        let (tags, versions) = (tier.tags().unwrap(), tier.versions().unwrap());
        let fresh = || [TagToken::draw(&fleet.entropy)];
        let [name] = [key.clone()];
        let token = tags.pin_tags(std::slice::from_ref(&name), &fresh(), HOUR).await.unwrap();
        fleet.time.advance(OVERLAP);
        let mut again = shards(&fleet, 0..4);
        again[3] = again[3].clone().era(1);
        tier.change(again, OVERLAP).unwrap();
        pass(&fleet, &tier);
        tags.rotate_tags(std::slice::from_ref(&name), &fresh(), Depth::Remove, HOUR).await.unwrap();
        versions.raise(&name, 7, HOUR).await.unwrap();
        tier.change(shards(&fleet, 0..3), OVERLAP).unwrap();
        pass(&fleet, &tier);
        assert_ne!(tags.tag_tokens(std::slice::from_ref(&name)).await.unwrap()[0], Some(token[0]));
        assert_eq!(versions.raise(&name, 0, HOUR).await.unwrap(), 7);
    });
}

#[test]
fn a_former_owner_is_forgotten_when_all_that_it_held_has_ended() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = fleet.builder_by(&fleet.ways[..3]).longest_life(HOUR / 2).build().unwrap();
        let (key, was) = moving(&fleet);
        fleet.fill(&tier, &key, "cut to half an hour").await;
        grow(&fleet, &tier);
        let calls = fleet.calls(was);
        tier.remove(&key).await.unwrap();
        assert_eq!(fleet.calls(was), calls + 1);
        fleet.time.advance(HOUR / 2);
        assert_eq!(fleet.holders(&key).await, [0; 0]);
        tier.remove(&key).await.unwrap();
        assert_eq!(fleet.calls(was), calls + 1);
    });
}

#[test]
fn a_node_that_comes_back_needs_a_higher_era_and_has_nothing_from_before() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 4);
        let (key, _) = moving(&fleet);
        fleet.fill(&tier, &key, "old").await;
        tier.change(shards(&fleet, 0..3), OVERLAP).unwrap();
        pass(&fleet, &tier);
        tier.remove(&key).await.unwrap();
        assert_eq!(fleet.holders(&key).await, [3], "it has missed that");
        assert_eq!(tier.change(shards(&fleet, 0..4), OVERLAP).unwrap_err().kind(), ErrorKind::Config);
        let mut again = shards(&fleet, 0..4);
        again[3] = again[3].clone().era(1);
        tier.change(again.clone(), OVERLAP).unwrap();
        pass(&fleet, &tier);
        assert_eq!(read(&tier, &key).await, None);
        fleet.fill(&tier, &key, "new").await;
        assert!(fleet.servers[3].get(&Key::new([b"~1~", key.as_bytes()].concat())).await.unwrap().is_some());
        // Nor is one of an era of its own trusted in an older one.
        assert_eq!(tier.change(shards(&fleet, 0..4), OVERLAP).unwrap_err().kind(), ErrorKind::Config);
        again[3] = again[3].clone().era(2);
        tier.change(again, OVERLAP).unwrap();
        fleet.time.advance(OVERLAP);
        assert_eq!(read(&tier, &key).await, None);
    });
}

#[test]
fn one_that_started_after_a_node_left_knows_that_it_was_there() {
    let fleet = Fleet::of(4);
    let former = (0..4).map(|at| Node::new(name(at)));
    let tier = fleet.builder_by(&fleet.ways[..3]).formerly(former).build().unwrap();
    assert_eq!(tier.change(shards(&fleet, 0..4), OVERLAP).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn there_is_one_change_at_a_time_and_a_bad_one_changes_nothing() {
    let fleet = Fleet::of(4);
    let tier = over(&fleet, 3);
    let twice = shards(&fleet, [0, 1, 1]);
    assert_eq!(tier.change(twice, OVERLAP).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(tier.change([], OVERLAP).unwrap_err().kind(), ErrorKind::Config);
    assert!(!tier.is_changing());
    tier.change(shards(&fleet, 0..4), OVERLAP).unwrap();
    assert_eq!(tier.change(shards(&fleet, 0..3), OVERLAP).unwrap_err().kind(), ErrorKind::Conflict);
    fleet.time.advance(2 * OVERLAP);
    // Nobody has come by in between.
    tier.change(shards(&fleet, 0..3), OVERLAP).unwrap();
}

#[test]
fn each_step_of_a_move_is_another_incarnation() {
    let fleet = Fleet::of(4);
    let tier = over(&fleet, 3);
    let mut seen = vec![tier.incarnation()];
    tier.change(shards(&fleet, [0, 1, 3]), OVERLAP).unwrap();
    for _ in 0..3 {
        seen.push(tier.incarnation());
        fleet.time.advance(OVERLAP);
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
}

#[test]
fn a_drained_shard_is_told_of_removals_and_gets_no_key() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = over(&fleet, 3);
        let keys: Vec<Key> = (0..60).map(key).collect();
        for key in &keys {
            fleet.fill(&tier, key, "old").await;
        }
        let mut drained = shards(&fleet, 0..3);
        drained[2] = drained[2].clone().weight(0);
        tier.change(drained, OVERLAP).unwrap();
        pass(&fleet, &tier);
        for key in &keys {
            assert_ne!(tier.owners(key), [name(2)]);
            tier.remove(key).await.unwrap();
            assert_eq!(fleet.holders(key).await, [0; 0]);
        }
    });
}

#[test]
fn a_sweep_begins_anew_when_the_nodes_change() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let keys: Vec<Key> = (0..100).map(key).collect();
        let all = Pattern::any().within(&Namespace::new("users").unwrap());
        let mut from = SweepCursor::START;
        for _ in 0..3 {
            from = tier.sweep(&all, &from).await.unwrap().next.unwrap_or_default();
        }
        for key in &keys {
            fleet.fill(&tier, key, "v").await;
        }
        let mut next = tier.sweep(&all, &SweepCursor::START).await.unwrap().next;
        grow(&fleet, &tier);
        for key in &keys {
            if read(&tier, key).await.is_none() {
                fleet.fill(&tier, key, "v").await;
            }
        }
        while let Some(from) = next {
            next = tier.sweep(&all, &from).await.unwrap().next;
        }
        for key in &keys {
            assert_eq!(fleet.holders(key).await, [0; 0]);
        }
    });
}

#[test]
fn a_list_of_members_is_young_after_a_move_and_kept_at_both_during_it() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let after = over(&fleet, 4);
        let registry = (0..).map(|n| Namespace::new(&format!("cache-{n}")).unwrap().members());
        let registry: Key = registry.into_iter().find(|it| after.owners(it) == [name(3)]).unwrap();
        let member = Member::new(PublisherId::from_bytes([7; 16]), "web-7");
        let members = tier.members().unwrap();
        members.enroll(&registry, &member, HOUR).await.unwrap();
        fleet.servers[3].members().unwrap().roll(&registry).await.unwrap();
        fleet.time.advance(HOUR / 2);
        tier.change(shards(&fleet, 0..4), OVERLAP).unwrap();
        assert_eq!(members.roll(&registry).await.unwrap().members.len(), 1);
        members.enroll(&registry, &member, HOUR).await.unwrap();
        fleet.time.advance(OVERLAP);
        let roll = members.roll(&registry).await.unwrap();
        assert_eq!(
            (roll.members.len(), roll.age),
            (1, Duration::ZERO),
            "however long that list has been kept"
        );
        fleet.time.advance(OVERLAP);
        assert_eq!(members.roll(&registry).await.unwrap().age, OVERLAP);
        assert!(members.leave(&registry, &member).await.unwrap());
    });
}

#[test]
fn what_one_server_says_of_a_tag_no_other_one_says() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let (name, was) = moving(&fleet);
        tier.change(shards(&fleet, 0..4), OVERLAP).unwrap();
        let (names, fresh) = ([name], [TagToken::draw(&fleet.entropy)]);
        tier.tags().unwrap().rotate_tags(&names, &fresh, Depth::Remove, HOUR).await.unwrap();
        let mut said = Vec::new();
        for server in [was, 3] {
            said.push(fleet.servers[server].tags().unwrap().tag_tokens(&names).await.unwrap()[0].unwrap());
        }
        assert_ne!(said[0], said[1]);
    });
}

#[test]
fn stand_ins_are_told_in_both_rings() {
    block_on(async {
        let fleet = Fleet::of(5);
        let failover = Failover::NextNode { ttl: HOUR };
        let tier = fleet.builder_by(&fleet.ways[..3]).failover(failover).build().unwrap();
        tier.change(shards(&fleet, 0..5), OVERLAP).unwrap();
        let keys: Vec<Key> = (0..300).map(key).collect();
        for key in &keys {
            tier.remove(key).await.unwrap();
        }
        let calls: usize = (0..5).map(|at| fleet.calls(at)).sum();
        assert!(
            calls > 2 * keys.len() && calls < 4 * keys.len(),
            "two each, up to four where all move: {calls}"
        );
    });
}

#[test]
fn a_floor_is_carried_over_from_a_home_that_leaves_by_a_late_version() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 4);
        let (key, _) = moving(&fleet);
        let versions = tier.versions().unwrap();
        versions.raise(&key, 9, HOUR).await.unwrap();
        tier.change(shards(&fleet, 0..3), OVERLAP).unwrap();
        assert_eq!(versions.raise(&key, 8, HOUR).await.unwrap(), 9);
        pass(&fleet, &tier);
        assert_eq!(versions.raise(&key, 0, HOUR).await.unwrap(), 9);
        assert_eq!(versions.raise(&key, 8, HOUR).await.unwrap(), 9);
    });
}

#[test]
fn a_floor_at_a_former_home_counts_for_who_only_reads() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 3);
        let (key, _) = moving(&fleet);
        let versions = tier.versions().unwrap();
        versions.raise(&key, 9, HOUR).await.unwrap();
        grow(&fleet, &tier);
        assert_eq!(versions.raise(&key, 0, Duration::ZERO).await.unwrap(), 9);
    });
}

#[test]
fn a_floor_lies_where_its_key_does() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = over(&fleet, 4);
        let users = Namespace::new("users").unwrap();
        for key in (0..40).map(key) {
            let floor = users.floor(&key);
            tier.versions().unwrap().raise(&floor, 9, HOUR).await.unwrap();
            for (at, server) in fleet.servers.iter().enumerate() {
                let found = server.versions().unwrap().raise(&floor, 0, HOUR).await.unwrap();
                assert_eq!(found == 9, tier.owners(&key) == [name(at)]);
            }
        }
    });
}

#[test]
fn tokens_and_floors_end_with_the_longest_life() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().longest_life(HOUR / 2).build().unwrap();
        let (tags, versions) = (tier.tags().unwrap(), tier.versions().unwrap());
        let (names, fresh) = ([key("pinned")], [TagToken::draw(&fleet.entropy)]);
        let other = [key("rotated")];
        tags.pin_tags(&names, &fresh, HOUR).await.unwrap();
        tags.rotate_tags(&other, &fresh, Depth::Remove, HOUR).await.unwrap();
        versions.raise(&names[0], 7, HOUR).await.unwrap();
        fleet.time.advance(HOUR / 2);
        assert_eq!(tags.tag_tokens(&names).await.unwrap(), [None]);
        assert_eq!(tags.tag_tokens(&other).await.unwrap(), [None]);
        assert_eq!(versions.raise(&names[0], 0, HOUR).await.unwrap(), 0);
    });
}
