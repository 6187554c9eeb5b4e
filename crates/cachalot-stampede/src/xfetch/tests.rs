use cachalot_core::units::{millis, seconds};

use super::*;

type Formula = fn(Duration, Duration, f64, f64) -> bool;

/// A common mistake: the draw itself where its logarithm belongs.
fn without_logarithm(remaining: Duration, delta: Duration, beta: f64, u: f64) -> bool {
    beta * delta.as_secs_f64() * u >= remaining.as_secs_f64()
}

/// Another: the sign lost.
fn without_sign(remaining: Duration, delta: Duration, beta: f64, u: f64) -> bool {
    beta * delta.as_secs_f64() * u.ln() >= remaining.as_secs_f64()
}

#[test]
fn the_rule_by_hand() {
    let (second, u) = (seconds(1), (-1.0f64).exp());
    for (remaining, delta, beta, u, refresh) in [
        (second, second, 1.0, u, true),
        (millis(500), second, 1.0, u, true),
        (Duration::from_micros(1_000_100), second, 1.0, u, false),
        (Duration::from_nanos(1), seconds(3600), 1.0, 1.0, false),
        (Duration::ZERO, second, 1.0, 1.0, true),
        (Duration::ZERO, Duration::ZERO, 0.0, 1.0, true),
        (Duration::from_nanos(1), second, 0.0, f64::MIN_POSITIVE, false),
        (Duration::from_nanos(1), Duration::ZERO, 1.0, f64::MIN_POSITIVE, false),
        (seconds(2), second, 2.0, u, true),
    ] {
        let got = should_refresh(remaining, delta, beta, u);
        assert_eq!(got, refresh, "remaining {remaining:?}, delta {delta:?}, beta {beta}, u {u}");
    }
}

#[test]
fn nonsense_never_refreshes_early() {
    for u in [0.0, -1.0, 1.5, f64::NAN, f64::NEG_INFINITY] {
        assert!(!should_refresh(millis(1), seconds(1), 1.0, u), "u {u}");
    }
    for beta in [-1.0, f64::NAN] {
        assert!(!should_refresh(millis(1), seconds(1), beta, 0.5), "beta {beta}");
    }
    assert!(!should_refresh(Duration::MAX, Duration::MAX, 1.0, 0.9));
}

#[test]
fn eagerness_is_checked() {
    for beta in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(XFetch::new(beta).unwrap_err().kind(), ErrorKind::Config, "{beta}");
    }
    for beta in [0.0, 0.5, 1.0, 1e9] {
        assert_eq!(XFetch::new(beta).unwrap().beta(), beta);
    }
    assert_eq!(XFetch::default().beta(), 1.0);
}

#[test]
fn refreshes_are_as_frequent_as_the_closed_form_says() {
    const DRAWS: u32 = 1_000_000;
    let entropy = Entropy::seeded(11);
    for (ratio, expected) in [(0.5, 0.606_53), (1.0, 0.367_88), (2.0, 0.135_34), (5.0, 0.006_74)] {
        let remaining = seconds(1).mul_f64(ratio);
        let draw = || XFetch::default().draw(remaining, seconds(1), seconds(3600), &entropy);
        let frequency = f64::from((0..DRAWS).filter(|_| draw()).count() as u32) / f64::from(DRAWS);
        let sigma = (expected * (1.0 - expected) / f64::from(DRAWS)).sqrt();
        assert!((frequency - expected).abs() < 4.0 * sigma + 5e-6, "{ratio}: {frequency}, not {expected}");
    }
}

#[test]
fn skipping_hopeless_draws_changes_nothing() {
    let least = 1.0 / (1u64 << 53) as f64;
    assert!(-least.ln() < LEAST_UNIT_LN);
    assert!(!should_refresh(seconds(37), seconds(1), 1.0, least));
}

#[test]
fn one_slow_load_does_not_refresh_the_whole_next_cycle() {
    assert_eq!(clamp_delta(seconds(60), seconds(10)), seconds(5));
    assert_eq!(clamp_delta(Duration::from_micros(7), seconds(10)), Duration::from_micros(7));
    assert_eq!(clamp_delta(seconds(1), Duration::ZERO), Duration::ZERO);
    let entropy = Entropy::seeded(3);
    let fired =
        |ttl| (0..1000).filter(|_| XFetch::default().draw(seconds(10), seconds(60), ttl, &entropy)).count();
    assert!(fired(seconds(10)) < 200, "37 % of the reads of a fresh value at most, not 85 %");
    assert!(fired(seconds(3600)) > 800);
}

/// What a cycle was like: how many refreshes began before the first had ended, and how long before the expiry
/// the first began; nothing if the entry expired first.
struct Cycles {
    refreshes: f64,
    lead: f64,
    expired: f64,
}

/// Reads arrive at random, `rate` a second, of an entry that takes a second to load. Times in seconds.
fn simulate(formula: Formula, rate: f64, beta: f64, cycles: u32) -> Cycles {
    let entropy = Entropy::seeded(u64::from(cycles));
    let gap = || -entropy.draw_unit().ln() / rate;
    let mut sum = Cycles { refreshes: 0.0, lead: 0.0, expired: 0.0 };
    for _ in 0..cycles {
        let (mut remaining, mut first) = (15.0 * beta.max(1.0), None);
        while first.is_none_or(|first: f64| remaining > first - 1.0) {
            remaining -= gap();
            let left = Duration::from_secs_f64(remaining.max(0.0));
            if left.is_zero() || formula(left, seconds(1), beta, entropy.draw_unit()) {
                let first = *first.get_or_insert(remaining);
                sum.refreshes += f64::from(u8::from(remaining > first - 1.0));
            }
        }
        sum.lead += first.unwrap_or(0.0).max(0.0);
        sum.expired += f64::from(u8::from(first.is_none_or(|first| first <= 0.0)));
    }
    let cycles = f64::from(cycles);
    Cycles { refreshes: sum.refreshes / cycles, lead: sum.lead / cycles, expired: sum.expired / cycles }
}

#[test]
fn a_busy_key_is_refreshed_e_to_the_one_over_beta_times_a_cycle() {
    let usual = simulate(should_refresh, 100.0, 1.0, 1500);
    assert!((usual.refreshes - 2.72).abs() < 0.15, "{} refreshes", usual.refreshes);
    assert!((usual.lead - 5.18).abs() < 0.15, "{} s early", usual.lead);
    assert_eq!(usual.expired, 0.0);
    let eager = simulate(should_refresh, 100.0, 2.0, 1000);
    assert!((eager.refreshes - 1.65).abs() < 0.1, "{} refreshes", eager.refreshes);
}

#[test]
fn the_formula_without_the_logarithm_fails_what_this_one_passes() {
    for wrong in [without_logarithm as Formula, without_sign] {
        let cycles = simulate(wrong, 100.0, 1.0, 100);
        assert!((cycles.refreshes - 2.72).abs() > 1.0, "{} refreshes", cycles.refreshes);
        assert!((cycles.lead - 5.18).abs() > 1.0, "{} s early", cycles.lead);
    }
    // Never more than one load's time early, so a busy key's readers come all at once.
    assert!(!without_logarithm(millis(1_001), seconds(1), 1.0, f64::MIN_POSITIVE));
    assert!(should_refresh(millis(1_001), seconds(1), 1.0, f64::MIN_POSITIVE));
}
