//! Callers that leave, at whatever point.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use cachalot_core::{Backend, Key, LeaseBackend, LeaseReply, PutReply};
use tokio::time::{sleep, timeout};

use crate::support::{Fixture, TERM, TTL, eventually, put, token};

/// Polls `call` so many times, a little apart, and drops it. Whether it had ended.
async fn leave_after(polls: u32, call: impl Future) -> bool {
    let mut call = pin!(call);
    for _ in 0..polls {
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        sleep(Duration::from_micros(200)).await;
    }
    false
}

/// More polls than any call needs.
const POLLS: u32 = 60;

#[tokio::test]
async fn a_lease_whose_caller_left_can_be_given_back() {
    let f = Fixture::start().await;
    let mut ended = 0;
    for polls in 0..POLLS {
        let owner = token();
        let left = leave_after(polls, f.backend.get_or_lease(&f.key, owner, TERM, None)).await;
        ended += u32::from(left);
        // The call may still happen; when it has, the right can be given back.
        let next = token();
        let free = async || {
            let _ = f.backend.release(&f.key, owner).await.unwrap();
            matches!(f.lease(next).await, LeaseReply::Lease { .. }).then_some(())
        };
        eventually(free).await;
        assert!(f.backend.release(&f.key, next).await.unwrap());
    }
    assert!(ended > 0, "no call was let to its end");
}

#[tokio::test]
async fn an_expired_value_whose_reader_left_can_be_won() {
    let f = Fixture::start().await;
    f.store("old").await;
    f.backend.expire(&f.key, TTL).await.unwrap();
    let both = [f.key.clone(), Key::new("other")];
    for polls in 0..POLLS {
        leave_after(polls, f.backend.get(&f.key)).await;
        leave_after(polls, f.backend.get_many(&both)).await;
        leave_after(polls, f.backend.touch(&f.key, put("").nonce, TTL)).await;
        leave_after(polls, f.backend.release(&f.key, token())).await;
        let next = token();
        let won = async || matches!(f.lease(next).await, LeaseReply::Lease { .. }).then_some(());
        timeout(TERM / 2, eventually(won)).await.expect("it was won by somebody who is gone");
        assert!(f.backend.release(&f.key, next).await.unwrap());
    }
}

#[tokio::test]
async fn a_put_and_a_removal_whose_callers_left_happen_whole_or_not_at_all() {
    let f = Fixture::start().await;
    for polls in 0..POLLS {
        let (owner, key) = (token(), Key::new(format!("k{polls}")));
        f.backend.get_or_lease(&key, owner, TERM, None).await.unwrap();
        leave_after(polls, f.backend.put_leased(&key, owner, put("v"))).await;
        leave_after(polls, f.backend.remove(&key)).await;
        // Whatever of it has happened: who removes it now is the last.
        f.backend.remove(&key).await.unwrap();
        let reply = f.backend.put_leased(&key, owner, put("late")).await.unwrap();
        assert_ne!(reply, PutReply::Stored);
        assert_eq!(f.backend.get(&key).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_spoil_nothing() {
    let f = Arc::new(Fixture::start().await);
    let keys: Vec<Key> = (0..64).map(|n| Key::new(format!("k{n}"))).collect();
    for key in &keys {
        let (owner, mut item) = (token(), put(""));
        f.backend.get_or_lease(key, owner, TERM, None).await.unwrap();
        item.payload = key.as_bytes().to_vec().into();
        f.backend.put_leased(key, owner, item).await.unwrap();
    }
    let readers: Vec<_> = (0..64)
        .map(|n| {
            let (f, keys) = (f.clone(), keys.clone());
            tokio::spawn(async move {
                for round in 0..200 {
                    let key = &keys[(n + round) % 64];
                    // Every third one is given up after a poll or two.
                    if (n + round) % 3 == 0 {
                        let _ = timeout(Duration::ZERO, f.backend.get(key)).await;
                        let _ = timeout(Duration::from_micros(50), f.backend.release(key, token())).await;
                    } else {
                        let record = f.backend.get(key).await.unwrap().unwrap();
                        assert_eq!(record.payload, key.as_bytes());
                    }
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
}
