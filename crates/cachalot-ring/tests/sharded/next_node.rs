//! The next node stands in.

use std::time::Duration;

use cachalot_core::{Backend, ErrorKind, Held, LeaseReply, PutReply, Removed, Token};
use cachalot_ring::{Failover, Sharded};
use cachalot_testkit::{Faulty, block_on};

use crate::health::{eject, probe};
use crate::support::{Fleet, SECOND, key_at, name, read};

const STAND_IN: Failover = Failover::NextNode { ttl: Duration::from_secs(5) };

fn tier(fleet: &Fleet) -> Sharded<Faulty> {
    fleet.builder().failover(STAND_IN).build().unwrap()
}

#[test]
fn the_next_node_is_read_and_stores_for_a_short_time() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = tier(&fleet);
        let key = key_at(&tier, 0);
        fleet.fill(&tier, &key, "at the owner").await;
        eject(&fleet, &tier, 0).await;
        assert_eq!(read(&tier, &key).await, None);
        assert_eq!(fleet.fill(&tier, &key, "at the next").await, PutReply::Stored);
        assert_eq!(read(&tier, &key).await, Some("at the next".into()));
        assert_eq!(fleet.holders(&key).await.len(), 2);
        fleet.time.advance(5 * SECOND);
        assert_eq!(fleet.holders(&key).await, [0], "as long as it may, and no longer");
        fleet.ways[0].up();
        for _ in 0..3 {
            probe(&fleet, &tier, 0).await;
        }
        assert_eq!(read(&tier, &key).await, Some("at the owner".into()));
    });
}

#[test]
fn a_removal_by_one_process_reaches_what_another_stored_at_the_next_node() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = tier(&fleet);
        let other = fleet.builder_by(&fleet.other_ways()).failover(STAND_IN).build().unwrap();
        let key = key_at(&tier, 0);
        eject(&fleet, &tier, 0).await;
        fleet.fill(&tier, &key, "old").await;
        // The other sees nothing wrong, and has the owner's word only if it asks nobody else.
        assert_eq!(other.remove(&key).await.unwrap(), Removed::Existing);
        assert_eq!(read(&tier, &key).await, None);
        // And what is being loaded there is not stored.
        let token = fleet.lease(&tier, &key).await.unwrap();
        other.remove(&key).await.unwrap();
        assert_eq!(
            tier.leases().unwrap().put_leased(&key, token, fleet.put("old")).await.unwrap(),
            PutReply::Absent
        );
        // Nor while a writer holds the key.
        let (leases, hold) = (other.leases().unwrap(), Token::draw(&fleet.entropy));
        assert_eq!(leases.hold(&key, hold, SECOND).await.unwrap(), Held::Held);
        let reply = tier.leases().unwrap().get_or_lease(&key, token, SECOND, None).await.unwrap();
        assert!(matches!(reply, LeaseReply::Busy { .. }));
        assert_eq!(leases.put_held(&key, hold, fleet.put("new")).await.unwrap(), PutReply::Stored);
        assert_eq!(fleet.holders(&key).await, [0], "the value is the owner's alone");
        assert!(fleet.lease(&tier, &key).await.is_some(), "and the hold has ended everywhere");
    });
}

#[test]
fn a_removal_is_not_done_as_long_as_either_node_is_away() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = tier(&fleet);
        let key = key_at(&tier, 0);
        fleet.fill(&tier, &key, "old").await;
        eject(&fleet, &tier, 0).await;
        fleet.fill(&tier, &key, "old").await;
        assert_eq!(tier.remove(&key).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(read(&tier, &key).await, None, "but the next has taken it");
        let next = fleet.next_of(&tier, &key).await;
        fleet.ways[0].up();
        for _ in 0..3 {
            probe(&fleet, &tier, 0).await;
        }
        fleet.ways[next].down();
        assert_eq!(tier.remove(&key).await.unwrap_err().kind(), ErrorKind::Unavailable);
        fleet.ways[next].up();
        tier.remove(&key).await.unwrap();
        assert_eq!(fleet.holders(&key).await, [0; 0]);
    });
}

#[test]
fn with_both_away_reads_are_misses() {
    block_on(async {
        let fleet = Fleet::of(2);
        let tier = tier(&fleet);
        eject(&fleet, &tier, 0).await;
        fleet.ways[1].down();
        let key = key_at(&tier, 1);
        for _ in 0..5 {
            assert!(tier.get(&key).await.is_err());
        }
        assert_eq!(read(&tier, &key).await, None);
        assert_eq!(tier.owners(&key), [name(1)]);
    });
}

#[test]
fn a_lease_of_the_next_node_stores_there_though_the_owner_is_back() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = tier(&fleet);
        let key = key_at(&tier, 0);
        eject(&fleet, &tier, 0).await;
        let token = fleet.lease(&tier, &key).await.unwrap();
        fleet.ways[0].up();
        for _ in 0..3 {
            probe(&fleet, &tier, 0).await;
        }
        let stored = tier.leases().unwrap().put_leased(&key, token, fleet.put("v")).await.unwrap();
        assert_eq!(stored, PutReply::Stored, "where the right was given");
        assert_eq!(read(&tier, &key).await, None, "where nobody looks");
    });
}

#[test]
fn a_touch_keeps_what_stands_in_no_longer_than_it_may_be_kept() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = tier(&fleet);
        let key = key_at(&tier, 0);
        eject(&fleet, &tier, 0).await;
        fleet.fill(&tier, &key, "at the next").await;
        let record = tier.get(&key).await.unwrap().unwrap();
        fleet.time.advance(SECOND);
        assert!(tier.touch(&key, record.nonce, 100 * SECOND).await.unwrap());
        fleet.time.advance(5 * SECOND);
        assert_eq!(fleet.holders(&key).await, [0; 0]);
    });
}
