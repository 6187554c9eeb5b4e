//! When a node is taken to be away, and when it is asked again. A state machine without a clock of its own.

use std::time::Duration;

use cachalot_core::Timestamp;

/// When a node is ejected and when it is taken back.
///
/// Only what says that the node is not there counts: [`Unavailable`](cachalot_core::ErrorKind::Unavailable),
/// [`Timeout`](cachalot_core::ErrorKind::Timeout), and a call that its caller has given up after
/// [`patience`](Health::patience). A value that is too large is no reason to leave a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// So many failures in a row, without an answer in between, eject a node. At least 1; default: 5.
    pub failures: u32,
    /// So many good probes in a row take it back. At least 1; default: 3.
    pub probes: u32,
    /// How long after an ejection the first probe comes, and the least between two. Default: 500 ms.
    pub pause: Duration,
    /// Each probe that fails doubles the pause, up to this. A node that is ejected again soon after it was taken back
    /// goes on where it was. A probe without an answer counts as failed after this time. Default: 10 s.
    pub pause_max: Duration,
    /// A call that ends without an answer because its caller does not wait any longer is a failure of the node from
    /// this length on, or from three quarters of the caller's own [limit](cachalot_core::Backend::bound), if that is less.
    /// Default: 250 ms.
    pub patience: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failures: 5,
            probes: 3,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(10),
            patience: Duration::from_millis(250),
        }
    }
}

impl Health {
    /// Sets [`failures`](Health::failures).
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// Sets [`probes`](Health::probes).
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Sets [`pause`](Health::pause) and [`pause_max`](Health::pause_max).
    #[must_use]
    pub fn pause(mut self, first: Duration, max: Duration) -> Self {
        (self.pause, self.pause_max) = (first, max);
        self
    }

    /// Sets [`patience`](Health::patience).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn is_sound(&self) -> bool {
        self.failures > 0 && self.probes > 0 && !self.pause.is_zero() && self.pause <= self.pause_max
    }
}

/// What is known of a node.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    state: State,
    /// How many probes have failed since the node was well for some time.
    setbacks: u32,
    /// The number of the last probe.
    probes: u64,
}

#[derive(Clone, Debug)]
enum State {
    In {
        failures: u32,
        since: Timestamp,
    },
    Out {
        good: u32,
        probe_at: Timestamp,
        /// When the last probe was sent, if it is under way.
        sent: Option<Timestamp>,
    },
}

/// What something that was observed leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    Ejected,
    TakenBack,
}

impl Condition {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { state: State::In { failures: 0, since: now }, setbacks: 0, probes: 0 }
    }

    /// Failures in a row; 0 while it is out.
    pub(super) fn failures(&self) -> u32 {
        match self.state {
            State::In { failures, .. } => failures,
            State::Out { .. } => 0,
        }
    }

    /// A call was answered.
    pub(super) fn answered(&mut self) {
        if let State::In { failures, .. } = &mut self.state {
            *failures = 0;
        }
    }

    /// A call failed. `lot`: from 0 to 1, spreads the probes of many processes.
    pub(super) fn failed(&mut self, health: &Health, now: Timestamp, lot: f64) -> Turn {
        // Calls from before the ejection still come in.
        let State::In { failures, since } = &mut self.state else { return Turn::Nothing };
        *failures += 1;
        if *failures < health.failures {
            return Turn::Nothing;
        }
        if now.since(*since) > health.pause_max.saturating_mul(3) {
            self.setbacks = 0;
        }
        let probe_at = now + self.pause(health, lot);
        self.state = State::Out { good: 0, probe_at, sent: None };
        Turn::Ejected
    }

    /// The number of a probe, if it is out and one is due. Who gets it sends that, and [says](Condition::probed) what
    /// came of it. One that has had no answer for the longest pause has failed, and is followed by another.
    pub(super) fn take_probe(&mut self, health: &Health, now: Timestamp) -> Option<u64> {
        let State::Out { good, probe_at, sent } = &mut self.state else { return None };
        match *sent {
            None if *probe_at > now => return None,
            Some(at) if now.since(at) < health.pause_max => return None,
            Some(_) => {
                *good = 0;
                self.setbacks = self.setbacks.saturating_add(1);
            }
            None => {}
        }
        *sent = Some(now);
        self.probes += 1;
        Some(self.probes)
    }

    /// What came of the probe of this `number`: nothing, if another has been sent since.
    pub(super) fn probed(
        &mut self,
        number: u64,
        is_good: bool,
        health: &Health,
        now: Timestamp,
        lot: f64,
    ) -> Turn {
        let State::Out { good, sent: Some(_), .. } = self.state else { return Turn::Nothing };
        if number != self.probes {
            return Turn::Nothing;
        }
        let good = if is_good { good + 1 } else { 0 };
        if good >= health.probes {
            self.state = State::In { failures: 0, since: now };
            return Turn::TakenBack;
        }
        let pause = match is_good {
            true => health.pause.mul_f64(0.5 + lot / 2.0),
            false => {
                self.setbacks = self.setbacks.saturating_add(1);
                self.pause(health, lot)
            }
        };
        self.state = State::Out { good, probe_at: now + pause, sent: None };
        Turn::Nothing
    }

    /// From half of it to all of it, so that processes do not come together.
    fn pause(&self, health: &Health, lot: f64) -> Duration {
        let doubled = health.pause.saturating_mul(1 << self.setbacks.min(20));
        doubled.min(health.pause_max).mul_f64(0.5 + lot / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn ejected(health: &Health, now: Timestamp) -> Condition {
        let mut condition = Condition::new(MS(0));
        (1..health.failures).for_each(|_| assert_eq!(condition.failed(health, now, 1.0), Turn::Nothing));
        assert_eq!(condition.failed(health, now, 1.0), Turn::Ejected);
        condition
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let health = Health::default();
        let mut condition = Condition::new(MS(0));
        for _ in 0..10 {
            (0..4).for_each(|_| assert_eq!(condition.failed(&health, MS(1), 1.0), Turn::Nothing));
            condition.answered();
        }
        assert_eq!(condition.failures(), 0);
        ejected(&health, MS(1));
    }

    #[test]
    fn one_bad_probe_begins_the_row_of_good_ones_anew() {
        let health = Health::default();
        let mut condition = ejected(&health, MS(0));
        let mut now = MS(0);
        for (is_good, turn) in [
            (true, Turn::Nothing),
            (true, Turn::Nothing),
            (false, Turn::Nothing),
            (true, Turn::Nothing),
            (true, Turn::Nothing),
            (true, Turn::TakenBack),
        ] {
            now = now + Duration::from_secs(10);
            let probe = condition.take_probe(&health, now).unwrap();
            assert_eq!(condition.take_probe(&health, now), None, "one at a time");
            assert_eq!(condition.probed(probe, is_good, &health, now, 1.0), turn);
        }
        assert_eq!(condition.take_probe(&health, now + Duration::from_secs(100)), None, "it is back");
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let health = Health::default();
        let mut condition = ejected(&health, MS(0));
        let mut now = MS(0);
        for pause in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert_eq!(condition.take_probe(&health, now + Duration::from_millis(pause - 1)), None);
            now = now + Duration::from_millis(pause);
            let probe = condition.take_probe(&health, now).unwrap();
            condition.probed(probe, false, &health, now, 1.0);
        }
    }

    #[test]
    fn who_is_ejected_again_soon_goes_on_where_it_was() {
        let health = Health::default().failures(1).probes(1);
        let mut condition = ejected(&health, MS(0));
        let probe = condition.take_probe(&health, MS(500)).unwrap();
        condition.probed(probe, false, &health, MS(500), 1.0);
        let probe = condition.take_probe(&health, MS(1_500)).unwrap();
        assert_eq!(condition.probed(probe, true, &health, MS(1_500), 1.0), Turn::TakenBack);
        let mut later = condition.clone();
        assert_eq!(condition.failed(&health, MS(1_600), 1.0), Turn::Ejected);
        assert_eq!(condition.take_probe(&health, MS(2_599)), None);
        assert!(condition.take_probe(&health, MS(2_600)).is_some());
        assert_eq!(later.failed(&health, MS(100_000), 1.0), Turn::Ejected);
        assert!(later.take_probe(&health, MS(100_500)).is_some());
    }

    #[test]
    fn a_probe_without_an_answer_has_failed_after_the_longest_pause_and_its_late_answer_counts_for_nothing() {
        let health = Health::default().probes(1);
        let mut condition = ejected(&health, MS(0));
        let first = condition.take_probe(&health, MS(500)).unwrap();
        assert_eq!(condition.take_probe(&health, MS(10_499)), None);
        let second = condition.take_probe(&health, MS(10_500)).unwrap();
        assert_eq!(condition.probed(first, true, &health, MS(10_501), 1.0), Turn::Nothing);
        assert_eq!(condition.probed(second, true, &health, MS(10_502), 1.0), Turn::TakenBack);
        assert_eq!(condition.probed(second, true, &health, MS(10_503), 1.0), Turn::Nothing);
    }
}
