//! Who leaves, who is slow, who gives up waiting.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot_core::BusEvent;

use super::super::BusSubject;
use super::super::subject::{Listener, number_of, numbered};

pub async fn a_dropped_next_loses_nothing(it: &BusSubject) {
    let mut listener = it.listen().await;
    let publisher = it.publisher();
    for sequence in 1..=30 {
        give_up_waiting(&mut listener).await;
        it.send(&numbered(publisher, sequence)).await;
        // Given up after a look, with the message there or on its way.
        let event = match look(&mut listener) {
            Some(event) => event,
            None => listener.next().await,
        };
        let BusEvent::Message(message) = event else { panic!("a message was to come: {event:?}") };
        assert_eq!(number_of(&message), sequence);
    }
}

fn look(listener: &mut Listener) -> Option<BusEvent> {
    let mut next = pin!(listener.0.next());
    match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => Some(event.expect("next")),
        Poll::Pending => None,
    }
}

async fn give_up_waiting(listener: &mut Listener) {
    let waiting = tokio::time::timeout(Duration::from_millis(1), listener.0.next()).await;
    assert!(waiting.is_err(), "nothing was sent: {waiting:?}");
}

pub async fn a_dropped_publish_breaks_nothing(it: &BusSubject) {
    let mut listener = it.listen().await;
    let (dropped, publisher) = (it.publisher(), it.publisher());
    for sequence in 1..=20 {
        {
            let message = numbered(dropped, sequence);
            let mut sending = pin!(it.other.publish(&message));
            let _ = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        it.send(&numbered(publisher, sequence)).await;
        let number = loop {
            let message = listener.message().await;
            if message.publisher == publisher {
                break number_of(&message);
            }
        };
        assert_eq!(number, sequence);
    }
}

pub async fn who_leaves_disturbs_nobody(it: &BusSubject) {
    let mut stays = it.listen().await;
    let publisher = it.publisher();
    for sequence in 1..=10 {
        let leaves = it.listen().await;
        it.send(&numbered(publisher, sequence)).await;
        drop(leaves);
        assert_eq!(stays.number().await, sequence);
    }
}

pub async fn who_reads_late_gets_all_or_a_gap(it: &BusSubject) {
    const SENT: u64 = 3_000;
    let mut listener = it.listen().await;
    let publisher = it.publisher();
    for sequence in 1..=SENT {
        it.send(&numbered(publisher, sequence)).await;
    }
    let mut last = 0;
    let mut gap = false;
    while last < SENT {
        match listener.next().await {
            BusEvent::Message(message) => {
                let number = number_of(&message);
                assert!(
                    number == last + 1 || gap,
                    "{number} came after {last}, and nothing was said of a gap"
                );
                (last, gap) = (number, false);
            }
            BusEvent::Gap(_) | BusEvent::Confirmed => {
                gap = true;
                // What comes after a gap may be all there is.
                it.send(&numbered(publisher, SENT)).await;
            }
            other => assert!(matches!(other, BusEvent::Interrupted), "{other:?}"),
        }
    }
}
