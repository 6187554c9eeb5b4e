//! Each script, row by row of the protocol.

use std::time::Duration;

use cachalot_core::{Backend, Expired, Held, Holder, LeaseBackend, LeaseReply, PutReply, Removed};

use crate::support::{Fixture, TERM, TTL, is_lease, put, put_for, stale, token};

const MS: Duration = Duration::from_millis(1);

// get_or_lease

#[tokio::test]
async fn a_usable_value_is_a_hit() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let LeaseReply::Hit(record) = f.lease(token()).await else { panic!("no hit") };
    assert_eq!((&record.payload[..], record.nonce, record.invalidated), (&b"v1"[..], nonce, false));
}

#[tokio::test]
async fn an_absent_key_is_leased_to_one_caller_and_busy_for_others() {
    let f = Fixture::start().await;
    assert_eq!(f.lease(token()).await, LeaseReply::Lease { stale: None });
    let LeaseReply::Busy { remaining, holder, stale } = f.lease(token()).await else { panic!("not busy") };
    assert!(remaining <= TERM && remaining > TERM / 2, "{remaining:?}");
    assert_eq!((holder, stale), (Holder::Reader, None));
}

#[tokio::test]
async fn a_refused_value_is_leased_and_stays_as_the_stale_candidate() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let winner = f.lease_refusing(token(), Some(nonce)).await;
    assert!(is_lease(&winner));
    assert_eq!(&stale(winner).unwrap().payload[..], b"v1");
    // The others who refuse it wait and may serve it; who does not refuse it hits.
    let loser = f.lease_refusing(token(), Some(nonce)).await;
    assert!(matches!(loser, LeaseReply::Busy { holder: Holder::Reader, .. }));
    assert_eq!(&stale(loser).unwrap().payload[..], b"v1");
    assert!(matches!(f.lease(token()).await, LeaseReply::Hit(_)));
}

#[tokio::test]
async fn a_value_that_was_refreshed_meanwhile_is_a_hit_for_who_refused_the_old_one() {
    let f = Fixture::start().await;
    let old = f.store("v1").await;
    let winner = token();
    f.lease_refusing(winner, Some(old)).await;
    assert_eq!(f.put_leased(winner, put("v2")).await, PutReply::Stored);
    let LeaseReply::Hit(record) = f.lease_refusing(token(), Some(old)).await else { panic!("no hit") };
    assert_eq!(&record.payload[..], b"v2");
}

#[tokio::test]
async fn a_lease_outlives_the_value_it_is_to_replace() {
    let f = Fixture::start().await;
    let nonce = f.store_for("v1", Duration::from_secs(1)).await;
    let reply = f.lease_refusing(token(), Some(nonce)).await;
    assert_eq!(&stale(reply).unwrap().payload[..], b"v1", "handed out for the last time");
    assert!(f.pttl() > 4_000, "{}", f.pttl());
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn a_lease_on_a_long_lived_value_keeps_its_life() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    f.lease_refusing(token(), Some(nonce)).await;
    assert!((50_000..=60_000).contains(&f.pttl()), "{}", f.pttl());
    assert_eq!(&f.read().await.unwrap().payload[..], b"v1");
}

#[tokio::test]
async fn an_ended_term_lets_the_next_one_in_and_the_first_one_loses() {
    let f = Fixture::start().await;
    let (first, second) = (token(), token());
    let short = f.backend.get_or_lease(&f.key, first, MS, None).await.unwrap();
    assert!(is_lease(&short));
    let next = loop {
        let reply = f.lease(second).await;
        if is_lease(&reply) {
            break reply;
        }
    };
    assert_eq!(next, LeaseReply::Lease { stale: None });
    assert_eq!(f.put_leased(first, put("old")).await, PutReply::Lost);
    assert_eq!(f.put_leased(second, put("new")).await, PutReply::Stored);
}

#[tokio::test]
async fn a_lease_past_its_deadline_still_stores_while_nobody_else_has_one() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let slow = token();
    f.backend.get_or_lease(&f.key, slow, MS, Some(nonce)).await.unwrap();
    wait_past(&f, MS).await;
    assert_eq!(f.put_leased(slow, put("v2")).await, PutReply::Stored);
}

#[tokio::test]
async fn an_invalidated_value_is_leased_with_its_mark() {
    let f = Fixture::start().await;
    f.store("v1").await;
    f.backend.expire(&f.key, TTL).await.unwrap();
    let candidate = stale(f.lease(token()).await).unwrap();
    assert_eq!((&candidate.payload[..], candidate.invalidated), (&b"v1"[..], true));
    // Still marked while the lease is out.
    assert!(f.read().await.unwrap().invalidated);
}

#[tokio::test]
async fn a_live_hold_is_busy_by_a_writer() {
    let f = Fixture::start().await;
    f.hold(token()).await;
    let reply = f.lease(token()).await;
    assert!(matches!(reply, LeaseReply::Busy { holder: Holder::Writer, stale: None, .. }), "{reply:?}");
}

#[tokio::test]
async fn an_ended_hold_is_leased() {
    let f = Fixture::start().await;
    f.backend.hold(&f.key, token(), MS).await.unwrap();
    wait_past(&f, MS).await;
    assert!(is_lease(&f.lease(token()).await));
}

// put_leased

#[tokio::test]
async fn a_put_keeps_payload_nonce_and_ttl_and_ends_the_lease() {
    let f = Fixture::start().await;
    let (owner, item) = (token(), put_for("v1", Duration::from_millis(30_500)));
    f.lease(owner).await;
    assert_eq!(f.put_leased(owner, item.clone()).await, PutReply::Stored);
    let record = f.read().await.unwrap();
    assert_eq!((record.payload, record.nonce), (item.payload, item.nonce));
    assert!((29_000..=30_500).contains(&f.pttl()), "{}", f.pttl());
    assert_eq!(f.put_leased(owner, put("again")).await, PutReply::Lost);
}

#[tokio::test]
async fn an_absent_record_refuses_a_put() {
    let f = Fixture::start().await;
    assert_eq!(f.put_leased(token(), put("v1")).await, PutReply::Absent);
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn a_stranger_cannot_put() {
    let f = Fixture::start().await;
    f.lease(token()).await;
    assert_eq!(f.put_leased(token(), put("v1")).await, PutReply::Lost);
    f.store_over("v2").await;
    assert_eq!(f.put_leased(token(), put("v3")).await, PutReply::Lost);
    assert_eq!(&f.read().await.unwrap().payload[..], b"v2");
}

#[tokio::test]
async fn a_writers_token_is_no_readers_lease() {
    let f = Fixture::start().await;
    let writer = token();
    f.hold(writer).await;
    assert_eq!(f.put_leased(writer, put("v1")).await, PutReply::Lost);
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn a_ttl_below_a_millisecond_stores_nothing_and_gives_the_right_back() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let owner = token();
    f.lease_refusing(owner, Some(nonce)).await;
    let reply = f.put_leased(owner, put_for("v2", Duration::from_nanos(999_999))).await;
    assert_eq!(reply, PutReply::Lost);
    assert_eq!(&f.read().await.unwrap().payload[..], b"v1");
    assert!(is_lease(&f.lease_refusing(token(), Some(nonce)).await));
}

#[tokio::test]
async fn an_endless_ttl_is_cut_to_what_the_server_counts() {
    let f = Fixture::start().await;
    f.store_for("v1", Duration::MAX).await;
    assert!(f.pttl() > 1 << 49, "{}", f.pttl());
    let nonce = f.read().await.unwrap().nonce;
    assert!(!f.backend.touch(&f.key, nonce, Duration::MAX).await.unwrap() || f.pttl() > 1 << 49);
    assert_eq!(f.backend.expire(&f.key, Duration::MAX).await.unwrap(), Expired::Marked);
    let owner = token();
    assert!(is_lease(&f.backend.get_or_lease(&f.key, owner, Duration::MAX, None).await.unwrap()));
    assert!(matches!(f.lease(token()).await, LeaseReply::Busy { .. }));
    assert!(f.backend.release(&f.key, owner).await.unwrap());
    f.backend.hold(&f.key, owner, Duration::MAX).await.unwrap();
    assert_eq!(f.hold(token()).await, Held::Overlap);
}

// release

#[tokio::test]
async fn a_released_lease_lets_the_next_one_in() {
    let f = Fixture::start().await;
    let owner = token();
    f.lease(owner).await;
    assert!(f.backend.release(&f.key, owner).await.unwrap());
    assert_eq!(f.pttl(), -2, "nothing is left behind");
    assert!(!f.backend.release(&f.key, owner).await.unwrap());
    assert!(is_lease(&f.lease(token()).await));
}

#[tokio::test]
async fn a_release_keeps_the_value_its_mark_and_its_life() {
    let f = Fixture::start().await;
    f.store("v1").await;
    f.backend.expire(&f.key, TTL).await.unwrap();
    let owner = token();
    f.lease(owner).await;
    assert!(f.backend.release(&f.key, owner).await.unwrap());
    let record = f.read().await.unwrap();
    assert_eq!((&record.payload[..], record.invalidated), (&b"v1"[..], true));
    assert!(f.pttl() > 50_000, "{}", f.pttl());
}

#[tokio::test]
async fn a_stranger_and_a_writer_release_nothing() {
    let f = Fixture::start().await;
    f.lease(token()).await;
    assert!(!f.backend.release(&f.key, token()).await.unwrap());
    assert!(!is_lease(&f.lease(token()).await));
    let writer = token();
    f.hold(writer).await;
    assert!(!f.backend.release(&f.key, writer).await.unwrap());
}

// remove

#[tokio::test]
async fn a_remove_drops_value_and_lease() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let owner = token();
    f.lease_refusing(owner, Some(nonce)).await;
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Existing);
    assert_eq!(f.pttl(), -2);
    assert_eq!(f.put_leased(owner, put("old")).await, PutReply::Absent);
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Nothing);
}

#[tokio::test]
async fn a_remove_revokes_a_lease_also_when_nothing_is_stored() {
    let f = Fixture::start().await;
    let (first, second) = (token(), token());
    f.lease(first).await;
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Existing);
    assert!(is_lease(&f.lease(second).await));
    assert_eq!(f.put_leased(first, put("old")).await, PutReply::Lost);
    assert_eq!(f.put_leased(second, put("new")).await, PutReply::Stored);
}

#[tokio::test]
async fn a_remove_poisons_a_live_hold_until_its_deadline() {
    let f = Fixture::start().await;
    let writer = token();
    f.hold(writer).await;
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Held);
    assert!(matches!(f.lease(token()).await, LeaseReply::Busy { holder: Holder::Writer, .. }));
    assert!((3_000..=5_000).contains(&f.pttl()), "{}", f.pttl());
    assert_eq!(f.put_held(writer, put("v1")).await, PutReply::Lost);
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn many_removes_answer_in_order() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let held = cachalot_core::Key::new("users:2");
    f.backend.hold(&held, token(), TERM).await.unwrap();
    let keys = [held.clone(), cachalot_core::Key::new("users:3"), f.key.clone(), held];
    let removed: Vec<Removed> = f.backend.remove_many(&keys).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(removed, [Removed::Held, Removed::Nothing, Removed::Existing, Removed::Held]);
}

// expire

#[tokio::test]
async fn an_expire_marks_the_value_cuts_its_life_and_revokes_the_lease() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let owner = token();
    f.lease_refusing(owner, Some(nonce)).await;
    let keep = Duration::from_secs(10);
    assert_eq!(f.backend.expire(&f.key, keep).await.unwrap(), Expired::Marked);
    let record = f.read().await.unwrap();
    assert_eq!((&record.payload[..], record.nonce, record.invalidated), (&b"v1"[..], nonce, true));
    assert!((8_000..=10_000).contains(&f.pttl()), "{}", f.pttl());
    assert_eq!(f.put_leased(owner, put("old")).await, PutReply::Lost);
}

#[tokio::test]
async fn an_expire_never_prolongs() {
    let f = Fixture::start().await;
    f.store("v1").await;
    f.backend.expire(&f.key, TTL * 10).await.unwrap();
    assert!(f.pttl() <= 60_000, "{}", f.pttl());
}

#[tokio::test]
async fn an_expire_that_keeps_nothing_leaves_nothing() {
    let f = Fixture::start().await;
    f.store("v1").await;
    assert_eq!(f.backend.expire(&f.key, Duration::ZERO).await.unwrap(), Expired::Marked);
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn an_expire_gives_an_immortal_record_an_end() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let _: i64 = redis::cmd("PERSIST").arg(f.key.as_bytes()).query(&mut f.raw()).unwrap();
    f.backend.expire(&f.key, TTL).await.unwrap();
    assert!((50_000..=60_000).contains(&f.pttl()), "{}", f.pttl());
}

#[tokio::test]
async fn an_expire_without_a_value_revokes_the_lease() {
    let f = Fixture::start().await;
    assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), Expired::Nothing);
    let owner = token();
    f.lease(owner).await;
    assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), Expired::Nothing);
    assert_eq!(f.put_leased(owner, put("old")).await, PutReply::Absent);
}

#[tokio::test]
async fn an_expire_poisons_a_live_hold() {
    let f = Fixture::start().await;
    let writer = token();
    f.hold(writer).await;
    assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), Expired::Held);
    assert_eq!(f.put_held(writer, put("v1")).await, PutReply::Lost);
}

// hold

#[tokio::test]
async fn a_hold_drops_the_value_and_revokes_the_lease() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    let reader = token();
    f.lease_refusing(reader, Some(nonce)).await;
    assert_eq!(f.hold(token()).await, Held::Held);
    assert_eq!(f.read().await, None);
    assert_eq!(f.put_leased(reader, put("old")).await, PutReply::Lost);
}

#[tokio::test]
async fn overlapping_holds_poison_each_other_until_the_later_deadline() {
    let f = Fixture::start().await;
    let (first, second) = (token(), token());
    f.backend.hold(&f.key, first, TERM * 2).await.unwrap();
    assert_eq!(f.hold(second).await, Held::Overlap);
    assert!(f.pttl() > 8_000, "{}", f.pttl());
    assert_eq!(f.put_held(second, put("v2")).await, PutReply::Lost);
    assert_eq!(f.put_held(first, put("v1")).await, PutReply::Lost);
    assert_eq!(f.read().await, None);
    assert!(matches!(f.lease(token()).await, LeaseReply::Busy { holder: Holder::Writer, .. }));
    assert_eq!(f.hold(token()).await, Held::Overlap, "poison is a live hold");
}

#[tokio::test]
async fn a_shorter_overlapping_hold_does_not_shorten_the_poison() {
    let f = Fixture::start().await;
    f.backend.hold(&f.key, token(), TERM).await.unwrap();
    f.backend.hold(&f.key, token(), TERM * 2).await.unwrap();
    assert!(f.pttl() > 8_000, "{}", f.pttl());
    f.backend.hold(&f.key, token(), MS).await.unwrap();
    assert!(f.pttl() > 8_000, "{}", f.pttl());
}

// put_held

#[tokio::test]
async fn a_writer_that_still_holds_stores() {
    let f = Fixture::start().await;
    let (writer, item) = (token(), put("v1"));
    f.hold(writer).await;
    assert_eq!(f.put_held(writer, item.clone()).await, PutReply::Stored);
    assert_eq!(f.read().await.unwrap().nonce, item.nonce);
    assert!((50_000..=60_000).contains(&f.pttl()), "{}", f.pttl());
}

#[tokio::test]
async fn a_writer_whose_hold_ended_drops_what_a_reader_stored_meanwhile() {
    let f = Fixture::start().await;
    let writer = token();
    f.backend.hold(&f.key, writer, MS).await.unwrap();
    wait_past(&f, MS).await;
    f.store("read before the write").await;
    assert_eq!(f.put_held(writer, put("v1")).await, PutReply::Lost);
    assert_eq!(f.read().await, None);
    assert_eq!(f.pttl(), -2);
}

#[tokio::test]
async fn a_writer_whose_hold_ended_revokes_a_readers_lease() {
    let f = Fixture::start().await;
    let (writer, reader) = (token(), token());
    f.backend.hold(&f.key, writer, MS).await.unwrap();
    wait_past(&f, MS).await;
    assert!(is_lease(&f.lease(reader).await));
    assert_eq!(f.put_held(writer, put("v1")).await, PutReply::Lost);
    assert_eq!(f.put_leased(reader, put("old")).await, PutReply::Absent);
}

#[tokio::test]
async fn a_writer_whose_record_is_gone_stores_nothing() {
    let f = Fixture::start().await;
    let writer = token();
    f.hold(writer).await;
    let _: i64 = redis::cmd("DEL").arg(f.key.as_bytes()).query(&mut f.raw()).unwrap();
    assert_eq!(f.put_held(writer, put("v1")).await, PutReply::Absent);
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn a_writer_that_has_nothing_to_store_ends_its_hold() {
    let f = Fixture::start().await;
    let writer = token();
    f.hold(writer).await;
    assert_eq!(f.put_held(writer, put_for("v1", Duration::ZERO)).await, PutReply::Lost);
    assert_eq!(f.pttl(), -2);
    assert!(is_lease(&f.lease(token()).await));
}

#[tokio::test]
async fn a_readers_token_is_no_hold() {
    let f = Fixture::start().await;
    let reader = token();
    f.lease(reader).await;
    assert_eq!(f.put_held(reader, put("v1")).await, PutReply::Lost);
    assert_eq!(f.read().await, None);
}

// touch

#[tokio::test]
async fn a_touch_prolongs_the_value_of_that_nonce_only() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    assert!(f.backend.touch(&f.key, nonce, TTL * 2).await.unwrap());
    assert!(f.pttl() > 110_000, "{}", f.pttl());
    assert!(!f.backend.touch(&f.key, nonce, TTL).await.unwrap(), "it has more");
    assert!(!f.backend.touch(&f.key, put("").nonce, TTL * 9).await.unwrap(), "another's");
    assert!(f.pttl() > 110_000, "{}", f.pttl());
}

#[tokio::test]
async fn a_touch_prolongs_no_invalidated_value_and_no_lease() {
    let f = Fixture::start().await;
    let nonce = f.store("v1").await;
    f.backend.expire(&f.key, TTL).await.unwrap();
    assert!(!f.backend.touch(&f.key, nonce, TTL * 2).await.unwrap());
    f.backend.remove(&f.key).await.unwrap();
    assert!(!f.backend.touch(&f.key, nonce, TTL * 2).await.unwrap());
    f.lease(token()).await;
    assert!(!f.backend.touch(&f.key, nonce, TTL * 2).await.unwrap());
    assert!(f.pttl() <= 5_000, "{}", f.pttl());
}

// all

#[tokio::test]
async fn a_thousand_concurrent_callers_get_one_lease() {
    let f = std::sync::Arc::new(Fixture::start().await);
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let f = f.clone();
            tokio::spawn(async move { is_lease(&f.lease(token()).await) })
        })
        .collect();
    let mut leases = 0;
    for caller in callers {
        leases += usize::from(caller.await.unwrap());
    }
    assert_eq!(leases, 1);
}

#[tokio::test]
async fn scripts_are_loaded_again_when_the_server_has_forgotten_them() {
    let f = Fixture::start().await;
    f.store("v1").await;
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut f.raw()).unwrap();
    assert!(matches!(f.lease(token()).await, LeaseReply::Hit(_)));
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Existing);
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut f.raw()).unwrap();
    f.store("v2").await;
    let keys = [cachalot_core::Key::new("absent"), f.key.clone()];
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut f.raw()).unwrap();
    let removed: Vec<Removed> = f.backend.remove_many(&keys).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(removed, [Removed::Nothing, Removed::Existing]);
    // Known again: no text goes over the wire a second time.
    let evals = |f: &Fixture| {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut f.raw()).unwrap();
        info.lines().find(|line| line.starts_with("cmdstat_eval:")).map(str::to_owned)
    };
    let before = evals(&f);
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Nothing);
    assert_eq!(evals(&f), before);
}

/// Waits until the server's clock has moved on by `term` and more.
async fn wait_past(f: &Fixture, term: Duration) {
    let now = || {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut f.raw()).unwrap();
        Duration::from_micros(seconds * 1_000_000 + micros)
    };
    let start = now();
    while now() < start + term + MS {
        tokio::task::yield_now().await;
    }
}

impl Fixture {
    /// Drops what is there and stores `payload`.
    async fn store_over(&self, payload: &'static str) {
        self.backend.remove(&self.key).await.unwrap();
        self.store(payload).await;
    }
}
