//! Several copies of each key.

use cachalot_core::{Backend, Key, LeaseReply, PutReply, Removed, Token};
use cachalot_testkit::{Operation, block_on};

use crate::health::eject;
use crate::support::{Fleet, SECOND, key, key_at, number, read};

#[test]
fn each_key_is_stored_as_often_as_asked_for() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = fleet.builder().copies(2).build().unwrap();
        for key in (0..20).map(key) {
            assert_eq!(fleet.fill(&tier, &key, "v").await, PutReply::Stored);
            let mut owners: Vec<usize> = tier.owners(&key).iter().map(|name| number(name)).collect();
            owners.sort_unstable();
            assert_eq!(fleet.holders(&key).await, owners);
            assert_eq!(tier.remove(&key).await.unwrap(), Removed::Existing);
            assert_eq!(fleet.holders(&key).await, [0; 0]);
        }
    });
}

#[test]
fn reads_are_spread_over_the_copies() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().copies(2).build().unwrap();
        let key = key(7);
        fleet.fill(&tier, &key, "v").await;
        for _ in 0..10 {
            assert_eq!(read(&tier, &key).await, Some("v".into()));
        }
        for owner in tier.owners(&key) {
            assert_eq!(fleet.ways[number(&owner)].calls_of(Operation::Get), 5);
        }
    });
}

#[test]
fn what_one_copy_lacks_another_one_has() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().copies(2).build().unwrap();
        let keys: Vec<Key> = (0..40).map(key).collect();
        for key in &keys {
            fleet.fill(&tier, key, "v").await;
        }
        fleet.servers[0].lose_everything();
        fleet.ways[0].calm();
        for key in &keys {
            assert!(read(&tier, key).await.is_some());
        }
        assert!(tier.get_many(&keys).await.iter().all(|it| matches!(it, Ok(Some(_)))));
        fleet.ways[0].down();
        for key in &keys {
            assert!(read(&tier, key).await.is_some());
        }
        assert!(tier.get_many(&keys).await.iter().all(|it| matches!(it, Ok(Some(_)))));
        // The one that is asked for the lease has lost it: the other's value is served, and the lease given back.
        fleet.ways[0].up();
        let key = key_at(&tier, 0);
        let token = Token::draw(&fleet.entropy);
        let reply = tier.leases().unwrap().get_or_lease(&key, token, SECOND, None).await.unwrap();
        assert!(matches!(reply, LeaseReply::Hit(_)));
        assert!(!fleet.servers[0].leases().unwrap().release(&key, token).await.unwrap());
    });
}

#[test]
fn a_removal_has_to_reach_all_copies_and_a_load_needs_one() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().copies(2).build().unwrap();
        let key = key_at(&tier, 0);
        eject(&fleet, &tier, 0).await;
        assert_eq!(fleet.fill(&tier, &key, "v").await, PutReply::Stored);
        assert_eq!(fleet.holders(&key).await, [number(&tier.owners(&key)[1])]);
        assert_eq!(read(&tier, &key).await, Some("v".into()));
        assert!(tier.remove(&key).await.is_err());
        assert_eq!(read(&tier, &key).await, None);
    });
}

#[test]
fn one_of_two_loaders_gets_the_lease() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().copies(2).build().unwrap();
        let other = fleet.builder_by(&fleet.other_ways()).copies(2).build().unwrap();
        let key = key(1);
        let token = fleet.lease(&tier, &key).await.unwrap();
        assert_eq!(fleet.lease(&other, &key).await, None);
        assert!(tier.leases().unwrap().release(&key, token).await.unwrap());
        assert!(fleet.lease(&other, &key).await.is_some());
    });
}

#[test]
fn copies_that_differ_are_replaced_when_neither_is_good() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().copies(2).build().unwrap();
        let key = key(7);
        // Each was stored while the other one was away.
        for owner in tier.owners(&key).iter().map(|name| number(name)) {
            let token = Token::draw(&fleet.entropy);
            let leases = fleet.servers[owner].leases().unwrap();
            leases.get_or_lease(&key, token, SECOND, None).await.unwrap();
            leases.put_leased(&key, token, fleet.put("of another time")).await.unwrap();
        }
        let mut refuse = tier.get(&key).await.unwrap().map(|record| record.nonce);
        for round in 0.. {
            assert!(round < 4, "they refuse each other for ever");
            let token = Token::draw(&fleet.entropy);
            match tier.leases().unwrap().get_or_lease(&key, token, SECOND, refuse).await.unwrap() {
                LeaseReply::Hit(record) => refuse = Some(record.nonce),
                LeaseReply::Lease { .. } => {
                    let put = tier.leases().unwrap().put_leased(&key, token, fleet.put("new")).await;
                    assert_eq!(put.unwrap(), PutReply::Stored);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        for _ in 0..2 {
            assert_eq!(read(&tier, &key).await, Some("new".into()), "at both");
        }
    });
}

#[test]
fn one_that_was_refused_gives_its_place_up_and_leaves_the_good_one_alone() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().copies(2).build().unwrap();
        let key = key(7);
        let owners: Vec<usize> = tier.owners(&key).iter().map(|name| number(name)).collect();
        let mut nonces = Vec::new();
        for owner in &owners {
            let token = Token::draw(&fleet.entropy);
            let leases = fleet.servers[*owner].leases().unwrap();
            leases.get_or_lease(&key, token, SECOND, None).await.unwrap();
            let put = fleet.put("v");
            nonces.push(put.nonce);
            leases.put_leased(&key, token, put).await.unwrap();
        }
        let token = Token::draw(&fleet.entropy);
        let leases = tier.leases().unwrap();
        let reply = leases.get_or_lease(&key, token, SECOND, Some(nonces[0])).await.unwrap();
        assert!(matches!(reply, LeaseReply::Hit(record) if record.nonce == nonces[1]));
        assert_eq!(fleet.holders(&key).await, [owners[1]]);
    });
}
