//! The bus within one process: the contract of a bus, sentence by sentence, and its bounds.
#![allow(clippy::unwrap_used, reason = "a test")]

use cachalot_core::{Body, Bus, BusEvent, BusGap, Message, Namespace, PublisherId};
use cachalot_invalidation::LocalBus;
use cachalot_testkit::{BusSubject, block_on, bus_suite};

bus_suite!(local, || async {
    let bus = LocalBus::new();
    let closes = bus.clone();
    BusSubject::new(bus.clone()).and_other(bus).closing(move || closes.close())
});

fn goodbye(last: u64) -> Message {
    let namespace = Namespace::new("users").unwrap();
    Message { publisher: PublisherId::from_bytes([1; 16]), namespace, body: Body::Goodbye { last } }
}

#[test]
fn a_slow_subscriber_finds_a_gap_and_the_others_do_not() {
    block_on(async {
        let bus = LocalBus::with_queue(4);
        let (mut slow, mut quick) = (bus.subscribe().await.unwrap(), bus.subscribe().await.unwrap());
        assert_eq!(quick.next().await.unwrap(), BusEvent::Confirmed);
        for last in 1..=10 {
            bus.publish(&goodbye(last)).await.unwrap();
            assert_eq!(quick.next().await.unwrap(), BusEvent::Message(goodbye(last)));
        }
        assert_eq!(slow.next().await.unwrap(), BusEvent::Confirmed);
        assert_eq!(slow.next().await.unwrap(), BusEvent::Gap(BusGap::Overflow));
    });
}

#[test]
fn who_left_is_forgotten() {
    block_on(async {
        let bus = LocalBus::new();
        let stays = bus.subscribe().await.unwrap();
        drop(bus.subscribe().await.unwrap());
        assert_eq!(bus.subscribers(), 1);
        drop(stays);
        assert_eq!(bus.subscribers(), 0);
    });
}
