//! Quiet it changes nothing; told to, it fails as told.

use cachalot_core::ManualClock;

use super::*;
use crate::{BackendSubject, ModelBackend, block_on, block_on_paused};

crate::backend_suite!(quiet, || async { subject().wrapped(Faulty::new) });

crate::backend_suite!(quiet_twice_and_shared, || async {
    subject().wrapped(Faulty::new).wrapped(|inner| Arc::new(Faulty::new(inner)))
});

fn subject() -> BackendSubject {
    let time = ManualClock::new();
    BackendSubject::manual(ModelBackend::new(time.clock()), time)
}

fn faulty() -> Faulty {
    Faulty::new(ModelBackend::new(ManualClock::new().clock()))
}

fn key(name: &str) -> Key {
    Key::new(name.to_owned())
}

/// Stores `value` under `key`, with no fault due.
async fn store(backend: &Faulty, name: &str) {
    let token = Token::from_bytes([1; 16]);
    let put = Put {
        payload: name.to_owned().into(),
        nonce: Nonce::from_bytes([2; 16]),
        ttl: Duration::from_secs(60),
    };
    let leases = backend.leases().unwrap();
    leases.get_or_lease(&key(name), token, Duration::from_secs(60), None).await.unwrap();
    assert_eq!(leases.put_leased(&key(name), token, put).await.unwrap(), PutReply::Stored);
}

async fn is_stored(backend: &Faulty, name: &str) -> bool {
    backend.get(&key(name)).await.unwrap().is_some()
}

#[test]
fn a_refused_call_is_not_done() {
    block_on(async {
        let backend = faulty();
        store(&backend, "k").await;
        backend.next(Fault::Refuse);
        let error = backend.remove(&key("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), "faulty remove failed: refused on purpose (key k)");
        assert!(is_stored(&backend, "k").await);
    });
}

#[test]
fn a_call_whose_answer_is_lost_is_done() {
    block_on(async {
        let backend = faulty();
        store(&backend, "k").await;
        backend.next(Fault::LoseAnswer);
        assert_eq!(backend.remove(&key("k")).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(!is_stored(&backend, "k").await);
    });
}

#[test]
fn a_late_call_is_done_when_told() {
    block_on(async {
        let backend = faulty();
        for name in ["a", "b"] {
            store(&backend, name).await;
            backend.next_of(Operation::Remove, Fault::LandLate);
        }
        for name in ["a", "b"] {
            assert_eq!(backend.remove(&key(name)).await.unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert!(is_stored(&backend, "a").await && is_stored(&backend, "b").await);
        assert_eq!(backend.late(), 2);
        assert!(backend.land_one().await);
        assert!(!is_stored(&backend, "a").await && is_stored(&backend, "b").await);
        assert_eq!(backend.land().await, 1);
        assert!(!is_stored(&backend, "b").await);
    });
}

#[test]
fn every_operation_can_land_late() {
    block_on(async {
        let (backend, token, term) = (faulty(), Token::from_bytes([1; 16]), Duration::from_secs(60));
        let put = Put { payload: "v".into(), nonce: Nonce::from_bytes([2; 16]), ttl: term };
        let leases = backend.leases().unwrap();
        backend.at_random(Odds { land_late: 1.0, ..Odds::default() }, 1);
        leases.get_or_lease(&key("k"), token, term, None).await.unwrap_err();
        leases.put_leased(&key("k"), token, put.clone()).await.unwrap_err();
        backend.touch(&key("k"), put.nonce, 2 * term).await.unwrap_err();
        leases.hold(&key("l"), token, term).await.unwrap_err();
        leases.put_held(&key("l"), token, put).await.unwrap_err();
        leases.get_or_lease(&key("m"), token, term, None).await.unwrap_err();
        leases.release(&key("m"), token).await.unwrap_err();
        backend.expire(&key("l"), term).await.unwrap_err();
        backend.get(&key("k")).await.unwrap_err();
        assert!(backend.get_many(&[key("k"), key("l")]).await.iter().all(Result::is_err));
        assert!(backend.remove_many(&[key("x")]).await.iter().all(Result::is_err));
        backend.remove(&key("y")).await.unwrap_err();
        backend.calm();
        assert_eq!((backend.calls(), backend.late()), (12, 12));
        assert!(!is_stored(&backend, "k").await);
        assert_eq!(backend.land().await, 12);
        assert!(!backend.get(&key("k")).await.unwrap().unwrap().invalidated);
        assert!(backend.get(&key("l")).await.unwrap().unwrap().invalidated);
        assert_eq!(backend.remove(&key("m")).await.unwrap(), Removed::Nothing);
    });
}

#[test]
fn a_delay_takes_tokios_time() {
    block_on_paused(async {
        let (backend, begin) = (faulty(), tokio::time::Instant::now());
        backend.next(Fault::Delay(Duration::from_secs(5)));
        assert!(!is_stored(&backend, "k").await);
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
    });
}

#[test]
fn part_of_many_keys_fails_and_the_rest_is_right() {
    block_on(async {
        let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
        let backend = faulty();
        for seed in 0..20 {
            for name in &names {
                store(&backend, name).await;
            }
            backend.at_random(Odds { partly: 1.0, ..Odds::default() }, seed);
            let found = backend.get_many(&keys).await;
            let removed = backend.remove_many(&keys).await;
            backend.calm();
            assert_eq!((found.len(), removed.len()), (20, 20));
            for ((name, found), removed) in names.iter().zip(&found).zip(&removed) {
                if let Ok(record) = found {
                    assert_eq!(record.as_ref().unwrap().payload, *name);
                }
                let is_stored = is_stored(&backend, name).await;
                match removed {
                    Ok(_) => assert!(!is_stored),
                    Err(error) => assert_eq!(is_stored, error.kind() == ErrorKind::Unavailable),
                }
            }
            let failed = |results: &[bool]| results.iter().filter(|is_ok| !**is_ok).count();
            let found: Vec<bool> = found.iter().map(Result::is_ok).collect();
            let removed: Vec<bool> = removed.iter().map(Result::is_ok).collect();
            assert!((1..20).contains(&failed(&found)) && (1..20).contains(&failed(&removed)));
            backend.remove_many(&keys).await;
        }
        backend.next(Fault::Partly);
        assert!(backend.get_many(&keys[..1]).await[0].is_err());
    });
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    block_on_paused(async {
        let odds = Odds {
            refuse: 0.2,
            lose_answer: 0.2,
            delay: 0.2,
            longest_delay: Duration::from_millis(100),
            ..Odds::default()
        };
        let outcomes = async |seed| {
            let backend = faulty();
            backend.at_random(odds, seed);
            let mut outcomes = Vec::new();
            for _ in 0..200 {
                let begin = tokio::time::Instant::now();
                let kind = backend.remove(&key("k")).await.map_err(|error| error.kind());
                outcomes.push((kind.err(), begin.elapsed()));
            }
            outcomes
        };
        let first = outcomes(7).await;
        assert_eq!(first, outcomes(7).await);
        assert_ne!(first, outcomes(8).await);
        let refused = first.iter().filter(|(kind, _)| *kind == Some(ErrorKind::Unavailable)).count();
        assert!((20..60).contains(&refused), "{refused} of 200 at odds of 0.2");
    });
}

#[test]
fn a_backend_that_is_down_refuses_all_until_it_is_up() {
    block_on(async {
        let backend = faulty();
        backend.down();
        assert!(backend.get(&key("k")).await.is_err());
        assert!(backend.clone().remove(&key("k")).await.is_err());
        assert!(backend.get_many(&[key("k")]).await[0].is_err());
        backend.up();
        assert!(!is_stored(&backend, "k").await);
        assert_eq!((backend.calls(), backend.calls_of(Operation::Get)), (4, 2));
    });
}
