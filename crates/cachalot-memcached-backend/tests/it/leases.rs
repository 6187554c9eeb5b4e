//! Rights that are bound to a connection, winners that die, readers that win what they did not want, writers that meet.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachalot_core::{Backend, Held, Holder, Key, LeaseBackend, LeaseReply, PutReply, Removed};
use tokio::sync::Barrier;
use tokio::time::sleep;

use crate::support::{Fixture, Relay, TERM, TTL, eventually, patient, put, recovered, token};

#[tokio::test]
async fn a_lease_on_nothing_is_lost_with_its_connection() {
    let f = Fixture::start().await;
    let relay = Relay::to(f.server.addr()).await;
    let cut = patient(relay.url()).connect().await.unwrap();
    let owner = token();
    let reply = cut.get_or_lease(&f.key, owner, TERM, None).await.unwrap();
    assert!(matches!(reply, LeaseReply::Lease { stale: None }));
    relay.cut().await;
    recovered(&cut).await;
    let late = async || cut.put_leased(&f.key, owner, put("late")).await.ok();
    assert_eq!(eventually(late).await, PutReply::Lost);
    assert_eq!(f.read().await, None);
    match f.lease(token()).await {
        LeaseReply::Busy { remaining, holder: Holder::Reader, .. } => assert!(remaining <= TERM),
        other => panic!("the empty item stands until the term ends: {other:?}"),
    }
}

#[tokio::test]
async fn a_lease_beside_a_value_and_a_hold_outlive_their_connection() {
    let f = Fixture::start().await;
    let old = f.store("old").await;
    let relay = Relay::to(f.server.addr()).await;
    let cut = patient(relay.url()).connect().await.unwrap();
    let (reader, writer, held) = (token(), token(), Key::new("held"));
    cut.get_or_lease(&f.key, reader, TERM, Some(old)).await.unwrap();
    assert_eq!(cut.hold(&held, writer, TERM).await.unwrap(), Held::Held);
    relay.cut().await;
    recovered(&cut).await;
    let late = async || cut.put_leased(&f.key, reader, put("new")).await.ok();
    assert_eq!(eventually(late).await, PutReply::Stored);
    let late = async || cut.put_held(&held, writer, put("new")).await.ok();
    assert_eq!(eventually(late).await, PutReply::Stored);
}

#[tokio::test]
async fn the_winner_of_an_expired_value_that_dies_is_succeeded_after_a_term() {
    let f = Fixture::start().await;
    f.store("old").await;
    f.backend.expire(&f.key, TTL).await.unwrap();
    let dead = f.another().await;
    assert!(matches!(
        dead.get_or_lease(&f.key, token(), TERM, None).await.unwrap(),
        LeaseReply::Lease { stale: Some(_) }
    ));
    drop(dead);
    // The server never ends it, and we have not seen it begin.
    let term = Duration::from_millis(300);
    let ask = async |term| f.backend.get_or_lease(&f.key, token(), term, None).await.unwrap();
    match ask(term).await {
        LeaseReply::Busy { remaining, holder: Holder::Reader, stale: Some(_) } => assert!(remaining <= term),
        other => panic!("somebody has won it: {other:?}"),
    }
    sleep(term).await;
    assert!(matches!(ask(TERM).await, LeaseReply::Lease { stale: Some(_) }));
    assert!(matches!(ask(TERM).await, LeaseReply::Busy { .. }), "one successor");
}

#[tokio::test]
async fn who_succeeds_a_winner_takes_its_right() {
    let f = Fixture::start().await;
    f.store("old").await;
    f.backend.expire(&f.key, TTL).await.unwrap();
    let (slow, next, term) = (token(), token(), Duration::from_millis(100));
    f.backend.get_or_lease(&f.key, slow, term, None).await.unwrap();
    sleep(term).await;
    let reply = f.backend.get_or_lease(&f.key, next, TERM, None).await.unwrap();
    assert!(matches!(reply, LeaseReply::Lease { .. }), "{reply:?}");
    assert_eq!(f.put_leased(slow, put("slow")).await, PutReply::Lost);
    assert_eq!(f.put_leased(next, put("next")).await, PutReply::Stored);
}

#[tokio::test]
async fn who_only_reads_an_expired_value_leaves_it_to_be_won() {
    let f = Fixture::start().await;
    let nonce = f.store("old").await;
    let other = Key::new("other");
    f.backend.expire(&f.key, TTL).await.unwrap();
    for round in 0..50 {
        let read = match round % 5 {
            0 => f.read().await.is_some(),
            1 => f.backend.get_many(&[other.clone(), f.key.clone()]).await.remove(1).unwrap().is_some(),
            2 => !f.backend.touch(&f.key, nonce, 2 * TTL).await.unwrap(),
            3 => !f.backend.release(&f.key, token()).await.unwrap(),
            _ => f.put_leased(token(), put("foreign")).await == PutReply::Lost,
        };
        assert!(read, "{round}");
        let owner = token();
        let reply = f.lease(owner).await;
        assert!(matches!(reply, LeaseReply::Lease { stale: Some(_) }), "{round}: {reply:?}");
        assert!(f.backend.release(&f.key, owner).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_an_expired_value_do_not_keep_a_loader_from_it() {
    let f = Fixture::start().await;
    f.store("old").await;
    f.backend.expire(&f.key, TTL).await.unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (server, key) = (f.server.url(), f.key.clone());
            tokio::spawn(async move {
                let backend = patient(server).connect().await.unwrap();
                while &backend.get(&key).await.unwrap().unwrap().payload[..] == b"old" {}
            })
        })
        .collect();
    let owner = token();
    let lease = async || matches!(f.lease(owner).await, LeaseReply::Lease { .. }).then_some(());
    eventually(lease).await;
    assert_eq!(f.put_leased(owner, put("new")).await, PutReply::Stored);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_removal_between_a_lease_and_its_put_is_not_undone() {
    let f = Fixture::start().await;
    let (cold, other) = (token(), f.another().await);
    f.lease(cold).await;
    assert_eq!(other.remove(&f.key).await.unwrap(), Removed::Existing);
    assert_eq!(f.put_leased(cold, put("old")).await, PutReply::Absent);
    let nonce = f.store("v").await;
    let warm = token();
    f.lease_refusing(warm, Some(nonce)).await;
    other.expire(&f.key, TTL).await.unwrap();
    assert_eq!(f.put_leased(warm, put("old")).await, PutReply::Lost);
    let stale = token();
    f.lease(stale).await;
    other.expire(&f.key, TTL).await.unwrap();
    assert_eq!(f.put_leased(stale, put("old")).await, PutReply::Lost);
    assert!(f.read().await.unwrap().invalidated);
}

#[tokio::test]
async fn two_writers_that_meet_store_nothing_and_readers_wait() {
    let f = Fixture::start().await;
    let (other, first, second) = (f.another().await, token(), token());
    assert_eq!(f.backend.hold(&f.key, first, TERM).await.unwrap(), Held::Held);
    assert_eq!(other.hold(&f.key, second, TERM).await.unwrap(), Held::Overlap);
    assert_eq!(other.put_held(&f.key, second, put("two")).await.unwrap(), PutReply::Lost);
    assert_eq!(f.backend.put_held(&f.key, first, put("one")).await.unwrap(), PutReply::Lost);
    let reply = f.lease(token()).await;
    assert!(matches!(reply, LeaseReply::Busy { holder: Holder::Writer, .. }), "{reply:?}");
    assert_eq!(f.read().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_that_meet_none_stores_and_readers_wait() {
    let f = Fixture::start().await;
    for round in 0..20 {
        let key = Key::new(format!("k{round}"));
        // Nobody stores before all have begun.
        let begun = Arc::new(Barrier::new(8));
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (backend, key, begun) = (f.backend.clone(), key.clone(), begun.clone());
                tokio::spawn(async move {
                    let writer = token();
                    let held = backend.hold(&key, writer, TERM).await.unwrap();
                    begun.wait().await;
                    (held, backend.put_held(&key, writer, put("v")).await.unwrap())
                })
            })
            .collect();
        let mut met = 0;
        for writer in writers {
            let (held, reply) = writer.await.unwrap();
            assert_ne!(reply, PutReply::Stored, "{held:?}: it met seven others");
            met += u32::from(held == Held::Overlap);
        }
        assert_eq!(met, 7, "all but the first");
        assert_eq!(f.backend.get(&key).await.unwrap(), None);
        let reply = f.backend.get_or_lease(&key, token(), TERM, None).await.unwrap();
        assert!(matches!(reply, LeaseReply::Busy { holder: Holder::Writer, .. }), "{reply:?}");
    }
}

#[tokio::test]
async fn a_hold_and_a_lease_never_end_before_their_term() {
    let f = &Fixture::start().await;
    let second = Duration::from_secs(1);
    // Begun in every phase of the server's second.
    let rounds = (0..10).map(|round| async move {
        sleep(second / 10 * round).await;
        let (held, leased) = (Key::new(format!("h{round}")), Key::new(format!("l{round}")));
        let began = Instant::now();
        assert_eq!(f.backend.hold(&held, token(), second).await.unwrap(), Held::Held);
        f.backend.get_or_lease(&leased, token(), second, None).await.unwrap();
        sleep(Duration::from_millis(950)).await;
        let (writer, reader) = tokio::join!(
            f.backend.get_or_lease(&held, token(), second, None),
            f.backend.get_or_lease(&leased, token(), second, None)
        );
        // On a machine that slept too long, nothing is told.
        if began.elapsed() < second {
            assert!(
                matches!(writer, Ok(LeaseReply::Busy { holder: Holder::Writer, .. })),
                "{round}: {writer:?}"
            );
            assert!(
                matches!(reader, Ok(LeaseReply::Busy { holder: Holder::Reader, .. })),
                "{round}: {reader:?}"
            );
        }
    });
    let mut rounds: Vec<_> = rounds.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        rounds.retain_mut(|round| round.as_mut().poll(context).is_pending());
        if rounds.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
