//! What is published arrives, where and as it should.

use std::time::Duration;

use cachalot_core::{Body, BusEvent, ErrorKind, Key, Message, Subject};

use super::super::BusSubject;
use super::super::subject::{Listener, message, named, number_of, numbered};

pub async fn it_says_what_it_is(it: &BusSubject) {
    let info = it.bus.info();
    assert!(!info.name.is_empty(), "it has a name for errors and metrics");
    assert_eq!(info, it.other.info(), "its ends are at one place");
}

pub async fn a_subscription_is_confirmed_before_its_first_message(it: &BusSubject) {
    let publisher = it.publisher();
    for sequence in 1..20 {
        // Published before, while and after it subscribes.
        it.send(&numbered(publisher, sequence)).await;
        let mut subscription = it.bus.subscribe().await.expect("subscribe");
        it.send(&numbered(publisher, sequence)).await;
        let first = tokio::time::timeout(super::super::PATIENCE, subscription.next()).await;
        assert_eq!(first.expect("nothing came").expect("next"), BusEvent::Confirmed);
    }
}

pub async fn a_publisher_hears_itself(it: &BusSubject) {
    let mut listener = it.listen().await;
    let sent = numbered(it.publisher(), 1);
    it.bus.publish(&sent).await.expect("publish");
    assert_eq!(listener.message().await, sent);
}

pub async fn a_message_reaches_every_subscriber(it: &BusSubject) {
    let mut listeners = vec![it.listen().await, it.listen().await, it.listen().await];
    listeners.push(Listener::confirmed(&*it.other).await);
    let publisher = it.publisher();
    for sequence in 1..=5 {
        it.send(&numbered(publisher, sequence)).await;
    }
    for listener in &mut listeners {
        for sequence in 1..=5 {
            assert_eq!(listener.number().await, sequence);
        }
    }
}

pub async fn who_subscribes_later_hears_what_comes_later(it: &BusSubject) {
    let publisher = it.publisher();
    it.send(&numbered(publisher, 1)).await;
    let mut listener = it.listen().await;
    it.send(&numbered(publisher, 2)).await;
    assert_eq!(listener.number().await, 2);
}

pub async fn every_kind_of_message_arrives_as_it_was_sent(it: &BusSubject) {
    let mut listener = it.listen().await;
    let (publisher, key) = (it.publisher(), Key::new("suite:1"));
    let subjects = vec![
        Subject::Key { key: key.clone(), pending: true },
        Subject::Tag { tag: "vip".into(), pending: false },
        Subject::Pattern { pattern: "suite:*".into(), pending: true },
        Subject::Clear { pending: false },
    ];
    let bodies = [
        Body::Invalidations { sequence: 7, confirm: true, subjects },
        Body::Heartbeat { last: 7, every: Duration::from_millis(1500), confirm: true },
        Body::Goodbye { last: u64::MAX },
        Body::Ack { of: it.publisher(), up_to: 3 },
        Body::LeasesEnded { keys: vec![key] },
    ];
    for body in bodies {
        let sent = message(publisher, body);
        it.send(&sent).await;
        assert_eq!(listener.message().await, sent);
    }
}

pub async fn any_bytes_are_a_name(it: &BusSubject) {
    let mut listener = it.listen().await;
    let publisher = it.publisher();
    let names: [Vec<u8>; 6] = [
        Vec::new(),
        vec![0],
        (0..=255).collect(),
        b"a\r\nPUBLISH b c\r\n".to_vec(),
        b"\xff\xfe{}*?[x] \\\"'".to_vec(),
        vec![b'x'; 5_000],
    ];
    for (sequence, name) in (1..).zip(names) {
        let sent = named(publisher, sequence, Key::new(name));
        it.send(&sent).await;
        assert_eq!(listener.message().await, sent);
    }
}

pub async fn a_big_message_arrives(it: &BusSubject) {
    let mut listener = it.listen().await;
    let name = vec![b'x'; Message::MAX_BYTES - 100];
    let sent = named(it.publisher(), 1, Key::new(name));
    it.send(&sent).await;
    assert_eq!(listener.message().await, sent);
}

pub async fn a_message_beyond_all_bounds_is_refused_and_disturbs_nothing(it: &BusSubject) {
    let mut listener = it.listen().await;
    let publisher = it.publisher();
    let name = vec![b'x'; Message::MAX_BYTES];
    let error = it.other.publish(&named(publisher, 1, Key::new(name))).await;
    assert_eq!(error.expect_err("it was taken").kind(), ErrorKind::Config);
    it.send(&numbered(publisher, 2)).await;
    assert_eq!(listener.number().await, 2);
}

pub async fn the_messages_of_a_publisher_keep_their_order(it: &BusSubject) {
    let mut listener = it.listen().await;
    let publisher = it.publisher();
    for sequence in 1..=100 {
        it.send(&numbered(publisher, sequence)).await;
    }
    for sequence in 1..=100 {
        assert_eq!(listener.number().await, sequence);
    }
}

pub async fn many_publishers_are_all_heard(it: &BusSubject) {
    let mut listener = it.listen().await;
    let publishers: Vec<_> = (0..50).map(|_| it.publisher()).collect();
    let sending = publishers.iter().map(|publisher| async move {
        for sequence in 1..=3 {
            it.send(&numbered(*publisher, sequence)).await;
        }
    });
    let mut last = vec![0; publishers.len()];
    let reading = async {
        for _ in 0..publishers.len() * 3 {
            let message = listener.message().await;
            let at = publishers.iter().position(|publisher| *publisher == message.publisher);
            let last = &mut last[at.expect("one of ours")];
            *last += 1;
            assert_eq!(number_of(&message), *last, "each publisher's in order");
        }
    };
    tokio::join!(futures_util::future::join_all(sending), reading);
    assert_eq!(last, vec![3; publishers.len()]);
}

pub async fn publishing_where_nobody_listens_is_no_error(it: &BusSubject) {
    it.send(&numbered(it.publisher(), 1)).await;
}
