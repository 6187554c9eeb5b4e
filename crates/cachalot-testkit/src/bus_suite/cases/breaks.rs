//! Connections that break, and the end. A bus whose connections cannot break passes unseen.

use cachalot_core::{BusEvent, ErrorKind};

use super::super::BusSubject;
use super::super::subject::{Listener, number_of, numbered};

/// Reads up to the event that says that the connection is back.
async fn back(listener: &mut Listener) -> BusEvent {
    loop {
        match listener.next().await {
            BusEvent::Interrupted | BusEvent::Gap(_) | BusEvent::Message(_) => {}
            back => return back,
        }
    }
}

pub async fn a_connection_that_broke_is_confirmed_or_resumed(it: &BusSubject) {
    let mut listener = it.listen().await;
    for _ in 0..3 {
        if !it.break_connections() {
            return;
        }
        it.mend();
        let back = back(&mut listener).await;
        assert!(matches!(back, BusEvent::Confirmed | BusEvent::Resumed), "{back:?}");
    }
}

pub async fn what_is_published_after_a_break_is_heard(it: &BusSubject) {
    let mut listener = it.listen().await;
    if !it.break_connections() {
        return;
    }
    it.mend();
    back(&mut listener).await;
    let publisher = it.publisher();
    for sequence in 1..=10 {
        it.send_at_last(&numbered(publisher, sequence)).await;
        loop {
            // What was sent twice, since the first attempt seemed to fail, may come twice.
            let number = listener.number().await;
            if number == sequence {
                break;
            }
            assert!(number < sequence);
        }
    }
}

pub async fn what_was_missed_is_said(it: &BusSubject) {
    let mut listener = it.listen().await;
    let publisher = it.publisher();
    it.send(&numbered(publisher, 1)).await;
    assert_eq!(listener.number().await, 1);
    if !it.break_connections() {
        return;
    }
    // Whether this reaches anybody is open.
    let _ = it.other.publish(&numbered(publisher, 2)).await;
    it.mend();
    it.send_at_last(&numbered(publisher, 3)).await;
    let mut last = 1;
    while last < 3 {
        match listener.next().await {
            BusEvent::Message(message) => {
                let number = number_of(&message);
                assert!(number <= last + 1, "{number} came after {last}, and nothing was said of a gap");
                last = last.max(number);
            }
            // The gap covers what was published before.
            BusEvent::Confirmed | BusEvent::Gap(_) => last = 3,
            _ => {}
        }
    }
}

pub async fn a_closed_bus_says_so(it: &BusSubject) {
    let mut listener = it.listen().await;
    it.send(&numbered(it.publisher(), 1)).await;
    if !it.close() {
        return;
    }
    assert_eq!(listener.number().await, 1, "what was there can still be read");
    for _ in 0..2 {
        let end = tokio::time::timeout(super::super::PATIENCE, listener.0.next()).await;
        assert_eq!(end.expect("no end").expect_err("it has ended").kind(), ErrorKind::Closed);
    }
    let error = it.other.publish(&numbered(it.publisher(), 1)).await;
    assert_eq!(error.expect_err("it has ended").kind(), ErrorKind::Closed);
    assert_eq!(it.bus.subscribe().await.map(drop).expect_err("it has ended").kind(), ErrorKind::Closed);
}
