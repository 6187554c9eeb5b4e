//! Many keys in one call.

use std::time::Duration;

use cachalot_core::{Backend, ErrorKind, Key, Removed};
use cachalot_testkit::{Fault, Operation, block_on, block_on_paused, tokio_clock};

use crate::support::{Fleet, key, key_at, number};

fn payloads(fleet_keys: &[Key]) -> Vec<String> {
    fleet_keys.iter().map(|key| format!("value of {key:?}")).collect()
}

#[test]
fn many_keys_take_one_call_to_each_node_and_come_back_in_their_order() {
    block_on(async {
        let fleet = Fleet::of(4);
        let tier = fleet.builder().build().unwrap();
        let keys: Vec<Key> = (0..200).map(key).collect();
        for (key, value) in keys.iter().zip(payloads(&keys)) {
            fleet.fill(&tier, key, &value).await;
        }
        let before: Vec<usize> = (0..4).map(|at| fleet.calls(at)).collect();
        let records = tier.get_many(&keys).await;
        for ((record, value), key) in records.iter().zip(payloads(&keys)).zip(&keys) {
            assert_eq!(record.as_ref().unwrap().as_ref().unwrap().payload, value.as_bytes());
            assert_eq!(fleet.holders(key).await, [number(&tier.owners(key)[0])]);
        }
        (0..4).for_each(|at| assert_eq!(fleet.calls(at), before[at] + 1));
        let removed = tier.remove_many(&keys).await;
        assert!(removed.iter().all(|it| matches!(it, Ok(Removed::Existing))));
        (0..4).for_each(|at| assert_eq!(fleet.calls(at), before[at] + 2));
    });
}

#[test]
fn a_node_that_fails_costs_its_own_keys() {
    block_on(async {
        let fleet = Fleet::of(3);
        let tier = fleet.builder().build().unwrap();
        let keys: Vec<Key> = (0..60).map(key).collect();
        for key in &keys {
            fleet.fill(&tier, key, "v").await;
        }
        fleet.ways[1].down();
        let is_lost = |key: &Key| number(&tier.owners(key)[0]) == 1;
        for (key, record) in keys.iter().zip(tier.get_many(&keys).await) {
            match record {
                Ok(record) => assert!(record.is_some() && !is_lost(key)),
                Err(error) => assert!(error.kind() == ErrorKind::Unavailable && is_lost(key)),
            }
        }
        for (key, removed) in keys.iter().zip(tier.remove_many(&keys).await) {
            assert_eq!(removed.is_err(), is_lost(key));
        }
    });
}

#[test]
fn nodes_are_asked_at_the_same_time() {
    block_on_paused(async {
        let fleet = Fleet::of(4);
        let tier = fleet.builder().build().unwrap();
        let clock = tokio_clock();
        let keys: Vec<Key> = (0..4).map(|at| key_at(&tier, at)).collect();
        let begin = clock.now();
        for operation in [Operation::GetMany, Operation::RemoveMany] {
            fleet.ways.iter().for_each(|way| way.next_of(operation, Fault::Delay(Duration::from_millis(10))));
        }
        tier.get_many(&keys).await;
        assert_eq!(clock.now().since(begin), Duration::from_millis(10));
        tier.remove_many(&keys).await;
        assert_eq!(clock.now().since(begin), Duration::from_millis(20));
    });
}
