use cachalot_core::units::{millis, seconds};

use super::*;

type Known = Failures<u64, &'static str>;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

fn known() -> (Known, Entropy) {
    (Failures::new(ErrorBackoff::new(seconds(1), seconds(8)).unwrap()), Entropy::seeded(5))
}

#[test]
fn a_failed_key_is_closed_until_its_time_and_others_are_not() {
    let (failures, entropy) = known();
    let retry_at = failures.record(&1, "down", at(0), &entropy);
    assert!(retry_at > at(500) && retry_at <= at(1_000), "{retry_at:?}");
    let closed = Remembered { error: "down", retry_at, failures: 1 };
    assert_eq!(failures.get(&1, at(0)), Some(closed.clone()));
    assert_eq!(failures.get(&1, retry_at.back(millis(1))), Some(closed));
    assert_eq!(failures.get(&1, retry_at), None);
    assert_eq!(failures.get(&2, at(0)), None);
}

#[test]
fn pauses_double_with_each_failure_in_a_row_up_to_the_cap() {
    let (failures, entropy) = known();
    let mut now = at(0);
    for (turn, bound) in [1, 2, 4, 8, 8, 8].into_iter().enumerate() {
        let retry_at = failures.record(&1, "down", now, &entropy);
        let pause = retry_at.since(now);
        assert!(
            pause >= seconds(bound) / 2 && pause <= seconds(bound),
            "turn {turn}: {pause:?} of {bound} s"
        );
        assert_eq!(failures.get(&1, now).unwrap().failures, turn as u32 + 1);
        now = retry_at;
    }
}

#[test]
fn processes_that_failed_together_try_again_at_different_times() {
    let (failures, entropy) = known();
    let times: std::collections::BTreeSet<_> =
        (0..100).map(|key| failures.record(&key, "down", at(0), &entropy)).collect();
    assert!(times.len() > 80, "{} different times", times.len());
}

#[test]
fn a_success_or_an_invalidation_starts_over() {
    let (failures, entropy) = known();
    for _ in 0..5 {
        failures.record(&1, "down", at(0), &entropy);
    }
    assert!(failures.forget(&1));
    assert!(!failures.forget(&1));
    assert_eq!(failures.get(&1, at(0)), None);
    assert!(failures.is_empty(at(0)));
    failures.record(&1, "down", at(0), &entropy);
    assert_eq!(failures.get(&1, at(0)).unwrap().failures, 1);
    failures.forget_all();
    assert_eq!(failures.get(&1, at(0)), None);
}

#[test]
fn the_newest_error_is_the_one_that_is_told() {
    let (failures, entropy) = known();
    failures.record(&1, "first", at(0), &entropy);
    failures.record(&1, "second", at(0), &entropy);
    assert_eq!(failures.get(&1, at(0)).unwrap().error, "second");
    assert_eq!(failures.len(at(0)), 1);
}

#[test]
fn a_failure_long_ago_is_none_in_a_row() {
    let (failures, entropy) = known();
    failures.record(&1, "down", at(0), &entropy);
    failures.record(&1, "down", at(50_000), &entropy);
    assert_eq!(failures.get(&1, at(50_000)).unwrap().failures, 2);
    failures.record(&1, "down", at(200_000), &entropy);
    assert_eq!(failures.get(&1, at(200_000)).unwrap().failures, 1);
}

#[test]
fn nothing_is_left_after_its_time() {
    let (failures, entropy) = known();
    for key in 0..5_000 {
        failures.record(&key, "down", at(key), &entropy);
    }
    assert_eq!(failures.len(at(5_000)), 5_000);
    // Asking alone clears it, a few keys a call.
    for _ in 0..1_250 {
        failures.get(&1, at(80_000));
    }
    assert_eq!(failures.count.load(Ordering::SeqCst), 0);
    let state = lock(&failures.state);
    assert_eq!((state.items.capacity(), state.order.len()), (0, 0));
}

#[test]
fn beyond_the_bound_the_one_to_be_forgotten_first_goes() {
    let (failures, entropy) = known();
    let failures = failures.capacity(100);
    for key in 0..1_000 {
        failures.record(&key, "down", at(key * 2_000), &entropy);
        assert!(failures.len(at(0)) <= 100);
    }
    assert!(failures.get(&999, at(999 * 2_000)).is_some());
    assert_eq!(failures.get(&0, at(0)), None);
    let state = lock(&failures.state);
    assert_eq!(state.order.len(), state.items.len());
}

#[test]
fn extremes_saturate() {
    let failures: Known = Failures::new(ErrorBackoff::new(seconds(1), Duration::MAX).unwrap());
    let entropy = Entropy::seeded(5);
    for _ in 0..100 {
        failures.record(&1, "down", Timestamp::NEVER.back(millis(1)), &entropy);
    }
    assert!(failures.get(&1, at(0)).is_some());
}

#[test]
fn pauses_that_make_no_sense_are_refused() {
    for (first, cap) in [(Duration::ZERO, seconds(1)), (seconds(2), seconds(1))] {
        assert_eq!(ErrorBackoff::new(first, cap).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn an_error_that_asks_about_its_own_key_when_dropped_does_not_hang() {
    struct Curious(std::sync::Arc<std::sync::OnceLock<Failures<u64, Curious>>>);
    impl Clone for Curious {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }
    impl Drop for Curious {
        fn drop(&mut self) {
            if let Some(failures) = self.0.get() {
                failures.forget(&7);
            }
        }
    }
    let cell = std::sync::Arc::new(std::sync::OnceLock::new());
    let failures = cell.get_or_init(|| Failures::new(ErrorBackoff::default()).capacity(1));
    for key in [1, 1, 2] {
        failures.record(&key, Curious(cell.clone()), at(0), &Entropy::seeded(1));
    }
    failures.forget(&2);
    assert!(failures.is_empty(at(0)));
}
