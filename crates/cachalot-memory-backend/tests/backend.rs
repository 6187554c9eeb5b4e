//! `MemoryBackend`, row by row of the lease protocol, and what only this backend does.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cachalot_core::{
    Backend, ErrorKind, Expired, Held, Holder, Key, LeaseBackend, LeaseReply, ManualClock, Namespace, Nonce,
    Pattern, Put, PutReply, Record, Removed, SweepCursor, Token,
};
use cachalot_memory_backend::MemoryBackend;
use cachalot_testkit::block_on;

const MS: Duration = Duration::from_millis(1);
const TERM: Duration = Duration::from_secs(2);
const TTL: Duration = Duration::from_secs(60);

struct World {
    backend: MemoryBackend,
    clock: ManualClock,
    key: Key,
}

fn world() -> World {
    let clock = ManualClock::new();
    World { backend: MemoryBackend::with_limit(1 << 20, clock.clock()), clock, key: Key::new("users:1") }
}

fn token(n: u8) -> Token {
    Token::from_bytes([n; 16])
}

fn nonce(n: u8) -> Nonce {
    Nonce::from_bytes([n; 16])
}

fn put(n: u8) -> Put {
    Put { payload: vec![n].into(), nonce: nonce(n), ttl: TTL }
}

fn lease(stale: Option<Record>) -> LeaseReply {
    LeaseReply::Lease { stale }
}

impl World {
    fn record(&self, n: u8) -> Record {
        Record { payload: vec![n].into(), nonce: nonce(n), age: Duration::ZERO, invalidated: false }
    }

    fn get(&self) -> Option<Record> {
        block_on(self.backend.get(&self.key)).unwrap()
    }

    fn lease(&self, n: u8, refuse: Option<Nonce>) -> LeaseReply {
        block_on(self.backend.get_or_lease(&self.key, token(n), TERM, refuse)).unwrap()
    }

    fn put_leased(&self, n: u8, put: Put) -> PutReply {
        block_on(self.backend.put_leased(&self.key, token(n), put)).unwrap()
    }

    fn hold(&self, n: u8) -> Held {
        block_on(self.backend.hold(&self.key, token(n), TERM)).unwrap()
    }

    fn put_held(&self, n: u8, put: Put) -> PutReply {
        block_on(self.backend.put_held(&self.key, token(n), put)).unwrap()
    }

    fn release(&self, n: u8) -> bool {
        block_on(self.backend.release(&self.key, token(n))).unwrap()
    }

    fn remove(&self) -> Removed {
        block_on(self.backend.remove(&self.key)).unwrap()
    }

    fn expire(&self, keep: Duration) -> Expired {
        block_on(self.backend.expire(&self.key, keep)).unwrap()
    }

    fn touch(&self, n: u8, ttl: Duration) -> bool {
        block_on(self.backend.touch(&self.key, nonce(n), ttl)).unwrap()
    }

    /// Stores `n` in the usual way.
    fn stored(&self, n: u8) {
        assert!(matches!(self.lease(n, None), LeaseReply::Lease { .. }));
        assert_eq!(self.put_leased(n, put(n)), PutReply::Stored);
    }
}

#[test]
fn a_lease_stores_and_the_value_ends_with_its_ttl() {
    let it = world();
    assert_eq!(it.lease(1, None), lease(None));
    assert_eq!(it.get(), None, "a lease is no value");
    assert_eq!(it.put_leased(1, put(1)), PutReply::Stored);
    assert_eq!(it.lease(2, None), LeaseReply::Hit(it.record(1)));
    it.clock.advance(TTL - MS);
    assert_eq!(it.get().unwrap().age, TTL - MS);
    it.clock.advance(MS);
    assert_eq!(it.get(), None);
    assert_eq!(it.remove(), Removed::Nothing);
}

#[test]
fn a_second_caller_is_told_who_loads_and_how_long() {
    let it = world();
    it.lease(1, None);
    it.clock.advance(MS);
    let busy = |remaining, holder, stale| LeaseReply::Busy { remaining, holder, stale };
    assert_eq!(it.lease(2, None), busy(TERM - MS, Holder::Reader, None));
    it.hold(3);
    assert_eq!(it.lease(2, None), busy(TERM, Holder::Writer, None));
}

#[test]
fn a_refused_value_stays_beside_the_lease_as_stale() {
    let it = world();
    it.stored(1);
    assert_eq!(it.lease(2, Some(nonce(9))), LeaseReply::Hit(it.record(1)));
    assert_eq!(it.lease(2, Some(nonce(1))), lease(Some(it.record(1))));
    let busy = it.lease(3, Some(nonce(1)));
    assert!(matches!(busy, LeaseReply::Busy { stale: Some(stale), .. } if stale == it.record(1)));
    assert_eq!(it.get(), Some(it.record(1)));
    assert_eq!(it.put_leased(2, put(2)), PutReply::Stored);
    assert_eq!(it.get(), Some(it.record(2)));
}

#[test]
fn a_lease_does_not_die_with_the_value_it_replaces() {
    let it = world();
    it.stored(1);
    it.clock.advance(TTL - MS);
    assert!(matches!(it.lease(2, Some(nonce(1))), LeaseReply::Lease { stale: Some(_) }));
    it.clock.advance(2 * MS);
    assert!(matches!(it.lease(3, None), LeaseReply::Busy { .. }));
    assert_eq!(it.put_leased(2, put(2)), PutReply::Stored);
}

#[test]
fn the_token_alone_fences() {
    let it = world();
    it.stored(1);
    it.lease(2, Some(nonce(1)));
    it.clock.advance(TERM);
    assert_eq!(it.put_leased(2, put(2)), PutReply::Stored, "past the deadline");
    it.lease(3, Some(nonce(2)));
    it.clock.advance(TERM);
    it.lease(4, Some(nonce(2)));
    assert_eq!(it.put_leased(3, put(3)), PutReply::Lost, "passed to another");
    assert_eq!(it.put_leased(4, put(4)), PutReply::Stored);
    assert_eq!(it.put_leased(4, put(5)), PutReply::Lost, "used up");
    assert_eq!(it.get(), Some(it.record(4)));
}

#[test]
fn an_absent_record_is_a_refusal() {
    let it = world();
    assert_eq!(it.put_leased(1, put(1)), PutReply::Absent);
    assert_eq!(it.put_held(1, put(1)), PutReply::Absent);
    it.lease(1, None);
    assert_eq!(it.remove(), Removed::Existing);
    assert_eq!(it.put_leased(1, put(1)), PutReply::Absent);
    it.lease(1, None);
    assert_eq!(it.expire(TTL), Expired::Nothing);
    assert_eq!(it.put_leased(1, put(1)), PutReply::Absent);
    it.lease(1, None);
    it.clock.advance(TERM);
    assert_eq!(it.put_leased(1, put(1)), PutReply::Absent, "gone with its term");
    assert_eq!(it.get(), None);
}

#[test]
fn a_released_lease_lets_the_next_in_and_keeps_the_value() {
    let it = world();
    it.lease(1, None);
    assert!(!it.release(2));
    assert!(it.release(1));
    assert!(!it.release(1));
    it.stored(2);
    it.lease(3, Some(nonce(2)));
    assert!(it.release(3));
    assert_eq!(it.get(), Some(it.record(2)));
    assert_eq!(it.put_leased(3, put(3)), PutReply::Lost);
}

#[test]
fn a_put_of_no_life_gives_the_right_back() {
    let it = world();
    let dead = |n| Put { ttl: MS - Duration::from_nanos(1), ..put(n) };
    it.stored(1);
    it.lease(2, Some(nonce(1)));
    assert_eq!(it.put_leased(2, dead(2)), PutReply::Lost);
    assert_eq!(it.get(), Some(it.record(1)));
    assert!(matches!(it.lease(3, Some(nonce(1))), LeaseReply::Lease { .. }));
    it.hold(4);
    assert_eq!(it.put_held(4, dead(4)), PutReply::Lost);
    assert_eq!(it.lease(5, None), lease(None));
}

#[test]
fn a_hold_blocks_readers_and_stores() {
    let it = world();
    it.stored(1);
    it.lease(2, Some(nonce(1)));
    assert_eq!(it.hold(3), Held::Held);
    assert_eq!(it.get(), None, "the old value is dropped");
    assert_eq!(it.put_leased(2, put(2)), PutReply::Lost);
    assert_eq!(it.put_leased(3, put(3)), PutReply::Lost, "a hold is no lease");
    assert_eq!(it.put_held(3, put(3)), PutReply::Stored);
    assert_eq!(it.get(), Some(it.record(3)));
}

#[test]
fn overlapping_holds_poison_until_the_later_deadline() {
    let it = world();
    it.hold(1);
    it.clock.advance(TERM / 2);
    assert_eq!(it.hold(2), Held::Overlap);
    assert_eq!(it.put_held(1, put(1)), PutReply::Lost);
    assert_eq!(it.put_held(2, put(2)), PutReply::Lost);
    it.clock.advance(TERM - MS);
    let busy = it.lease(3, None);
    assert!(matches!(busy, LeaseReply::Busy { remaining: MS, holder: Holder::Writer, stale: None }));
    it.clock.advance(MS);
    assert_eq!(it.lease(3, None), lease(None));
}

#[test]
fn a_late_writer_poisons_the_hold_of_another() {
    let it = world();
    it.hold(1);
    it.clock.advance(TERM);
    assert_eq!(it.hold(2), Held::Held);
    assert_eq!(it.put_held(1, put(1)), PutReply::Lost);
    assert_eq!(it.put_held(2, put(2)), PutReply::Lost);
    assert!(matches!(it.lease(3, None), LeaseReply::Busy { holder: Holder::Writer, .. }));
}

#[test]
fn an_invalidation_during_a_hold_poisons_it() {
    for expire in [false, true] {
        let it = world();
        it.hold(1);
        if expire {
            assert_eq!(it.expire(TTL), Expired::Held);
        } else {
            assert_eq!(it.remove(), Removed::Held);
        }
        assert_eq!(it.put_held(1, put(1)), PutReply::Lost);
        assert!(matches!(it.lease(2, None), LeaseReply::Busy { .. }));
        it.clock.advance(TERM);
        assert_eq!(it.lease(2, None), lease(None));
    }
}

#[test]
fn a_hold_that_ended_without_storing_drops_the_record() {
    let it = world();
    it.hold(1);
    it.clock.advance(TERM);
    it.stored(2);
    assert_eq!(it.put_held(1, put(1)), PutReply::Lost);
    assert_eq!(it.get(), None);
}

#[test]
fn an_expired_value_is_only_a_stale_candidate() {
    let it = world();
    it.stored(1);
    it.lease(2, Some(nonce(1)));
    assert_eq!(it.expire(5 * TERM), Expired::Marked);
    let marked = Record { invalidated: true, ..it.record(1) };
    assert_eq!(it.put_leased(2, put(2)), PutReply::Lost, "its lease is revoked");
    assert_eq!(it.get(), Some(marked.clone()));
    assert_eq!(it.lease(3, None), lease(Some(marked)));
    assert!(!it.touch(1, 2 * TTL));
    it.clock.advance(5 * TERM);
    assert_eq!(it.get(), None);
}

#[test]
fn an_expire_never_prolongs() {
    let it = world();
    it.stored(1);
    assert_eq!(it.expire(2 * TTL), Expired::Marked);
    it.clock.advance(TTL);
    assert_eq!(it.get(), None);
    assert_eq!(it.expire(TTL), Expired::Nothing);
}

#[test]
fn a_touch_prolongs_the_value_it_names_and_no_lease() {
    let it = world();
    it.lease(1, None);
    assert!(!it.touch(1, TTL));
    it.put_leased(1, put(1));
    assert!(!it.touch(2, 2 * TTL), "another put");
    assert!(!it.touch(1, TTL - MS), "less than it has");
    assert!(it.touch(1, 2 * TTL));
    it.clock.advance(2 * TTL - MS);
    assert!(it.get().is_some());
    it.clock.advance(MS);
    assert_eq!(it.get(), None);
}

#[test]
fn many_keys_are_answered_in_their_order() {
    let it = world();
    it.stored(1);
    let keys = [Key::new("a"), it.key.clone(), Key::new("b")];
    let got: Vec<_> = block_on(it.backend.get_many(&keys)).into_iter().map(Result::unwrap).collect();
    assert_eq!(got, [None, Some(it.record(1)), None]);
    let removed: Vec<_> = block_on(it.backend.remove_many(&keys)).into_iter().map(Result::unwrap).collect();
    assert_eq!(removed, [Removed::Nothing, Removed::Existing, Removed::Nothing]);
}

#[test]
fn a_life_beyond_the_range_has_no_end() {
    let it = world();
    it.lease(1, None);
    let endless = Put { ttl: Duration::MAX, ..put(1) };
    assert_eq!(it.put_leased(1, endless), PutReply::Stored);
    it.clock.advance(Duration::MAX);
    assert!(it.get().is_some());
}

#[test]
fn a_right_that_was_evicted_with_its_record_is_absent() {
    let it = World { backend: MemoryBackend::with_limit(2000, ManualClock::new().clock()), ..world() };
    it.lease(1, None);
    for n in 0..100u8 {
        let other = Key::new(vec![b'k', n]);
        block_on(it.backend.get_or_lease(&other, token(n), TERM, None)).unwrap();
    }
    assert!(it.backend.stats().weight <= 2000);
    assert_eq!(it.put_leased(1, put(1)), PutReply::Absent);
}

#[test]
fn a_full_backend_still_stores() {
    let it = World { backend: MemoryBackend::with_limit(10_000, ManualClock::new().clock()), ..world() };
    for n in 0..100u8 {
        let (key, large) = (Key::new(vec![b'k', n]), Put { payload: vec![n; 3000].into(), ..put(n) });
        block_on(it.backend.get_or_lease(&key, token(n), TERM, None)).unwrap();
        let reply = block_on(it.backend.put_leased(&key, token(n), large)).unwrap();
        assert_eq!(reply, PutReply::Stored, "{n}");
        assert!(it.backend.stats().weight <= 10_000);
    }
}

#[test]
fn a_payload_larger_than_the_memory_is_refused_with_the_right_kept() {
    let it = World { backend: MemoryBackend::with_limit(2000, ManualClock::new().clock()), ..world() };
    it.lease(1, None);
    let huge = Put { payload: vec![0; 2000].into(), ..put(1) };
    let refused = block_on(it.backend.put_leased(&it.key, token(1), huge.clone())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert_eq!(block_on(it.backend.put_held(&it.key, token(1), huge)).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(it.put_leased(1, put(1)), PutReply::Stored);
}

#[test]
fn a_clear_forgets_values_and_rights() {
    let it = world();
    it.lease(1, None);
    it.backend.clear();
    assert_eq!(it.put_leased(1, put(1)), PutReply::Absent);
    it.stored(1);
    it.backend.clear();
    assert_eq!(it.get(), None);
}

#[test]
fn one_of_many_threads_gets_the_lease() {
    let it = world();
    for round in 0..200 {
        let key = Key::new(format!("k:{round}"));
        let won = AtomicUsize::new(0);
        thread::scope(|scope| {
            for n in 0..4 {
                let (it, key, won) = (&it, &key, &won);
                scope.spawn(move || {
                    let reply = block_on(it.backend.get_or_lease(key, token(n), TERM, None)).unwrap();
                    if matches!(reply, LeaseReply::Lease { .. }) {
                        won.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(won.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_clone_shares_the_records() {
    let it = world();
    let other = it.backend.clone();
    it.stored(1);
    assert_eq!(block_on(other.get(&it.key)).unwrap(), Some(it.record(1)));
}

#[test]
fn no_payload_is_shown_in_debug() {
    let it = world();
    it.lease(1, None);
    it.put_leased(1, Put { payload: "secret".into(), ..put(1) });
    assert!(!format!("{:?}", it.backend).contains("secret"));
}

#[test]
fn a_sweep_of_many_records_has_many_parts_and_lets_others_in_between() {
    let backend = MemoryBackend::with_limit(64 << 20, ManualClock::new().clock());
    let users = Namespace::new("users").unwrap();
    let keys: Vec<Key> = (0..20_000).map(|n: u32| users.key(&n)).collect();
    block_on(async {
        for key in &keys {
            backend.hold(key, token(1), TERM).await.unwrap();
            backend.put_held(key, token(1), put(1)).await.unwrap();
        }
        let even = Pattern::new("*[02468]").within(&users);
        let (mut removed, mut parts, mut next) = (0, 0, Some(SweepCursor::START));
        while let Some(from) = next {
            let part = backend.sweep(&even, &from).await.unwrap();
            assert!(part.removed <= 1_100, "{} at once", part.removed);
            removed += part.removed;
            parts += 1;
            next = part.next;
            // The tables grow meanwhile.
            let other = Key::new(format!("pages:{parts}"));
            for n in 0..200 {
                backend.hold(&Key::new(format!("pages:{parts}:{n}")), token(1), TERM).await.unwrap();
            }
            assert_eq!(backend.hold(&other, token(1), TERM).await.unwrap(), Held::Held);
        }
        assert_eq!(removed, 10_000);
        assert!(parts >= 20, "{parts}");
        for (n, found) in backend.get_many(&keys).await.into_iter().enumerate() {
            assert_eq!(found.unwrap().is_some(), n % 2 == 1, "{n}");
        }
    });
}

#[test]
fn a_cursor_of_another_backend_is_refused_or_at_the_end() {
    let backend = MemoryBackend::new();
    let all = Pattern::any().within(&Namespace::new("users").unwrap());
    for place in [&b"1"[..], b"12345678", &[0xff; 17]] {
        let outcome = block_on(backend.sweep(&all, &SweepCursor::new(place)));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Config);
    }
    assert_eq!(block_on(backend.sweep(&all, &SweepCursor::new(&[0xff; 16][..]))).unwrap().next, None);
}
