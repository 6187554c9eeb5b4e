//! Ages go by the server's clock, whatever ours says.

use std::time::Duration;

use cachalot_core::{Backend, Clock, ManualClock, Timestamp};

use crate::support::{Fixture, patient};

#[tokio::test]
async fn two_nodes_15_minutes_apart_agree_on_the_age() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let quarter = Duration::from_secs(900);
    for shift in [quarter, quarter * 1_000] {
        for ahead in [true, false] {
            let clock = Clock::custom(move || {
                let now = Clock::system().now();
                if ahead { now + shift } else { now.back(shift) }
            });
            let node = patient(f.server.url()).clock(clock).connect().await.unwrap();
            let age = node.get(&f.key).await.unwrap().unwrap().age;
            assert!(age < Duration::from_secs(5), "{age:?}");
            let age = node.get_many(std::slice::from_ref(&f.key)).await.remove(0).unwrap().unwrap().age;
            assert!(age < Duration::from_secs(5), "{age:?}");
        }
    }
}

#[tokio::test]
async fn an_age_grows_with_our_clock_between_readings_and_is_set_right_by_the_next() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let time = ManualClock::new();
    let node = patient(f.server.url()).clock(time.clock()).connections(1).connect().await.unwrap();
    let age = async || node.get(&f.key).await.unwrap().unwrap().age;
    let young = age().await;
    time.advance(Duration::from_secs(30));
    let grown = age().await - young;
    assert_eq!(grown, Duration::from_secs(30));
    // A minute is up: the server is asked, and it knows of no half minute.
    time.advance(Duration::from_secs(31));
    assert!(age().await < Duration::from_secs(20));
}

#[tokio::test]
async fn the_time_a_value_was_stored_outlives_leases_marks_and_touches() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let stored_at = |f: &Fixture| {
        let bytes: Vec<u8> =
            redis::cmd("GETRANGE").arg(f.key.as_bytes()).arg(48).arg(55).query(&mut f.raw()).unwrap();
        Timestamp::from_millis(u64::from_be_bytes(bytes.try_into().unwrap()))
    };
    let first = stored_at(&f);
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut f.raw()).unwrap();
    assert!(first.as_millis().abs_diff(seconds * 1_000) < 10_000);
    f.backend.touch(&f.key, nonce, crate::support::TTL * 2).await.unwrap();
    f.lease_refusing(crate::support::token(), Some(nonce)).await;
    f.backend.expire(&f.key, crate::support::TTL).await.unwrap();
    assert_eq!(stored_at(&f), first);
}
