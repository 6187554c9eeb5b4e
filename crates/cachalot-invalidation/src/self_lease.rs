//! How long a cache may believe that others wait for it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cachalot_core::{Clock, Enrolled, Timestamp, mutant};

/// A cache's own registration among the [members](cachalot_core::MemberBackend), as far as it can know: while it
/// [holds](SelfLease::holds), whoever waits for every member waits for this one, and what it has in memory may be
/// served.
///
/// A term is counted from when its enrolment was *sent*: the server counts it from later on. It is taken for 1 %
/// shorter, since two clocks never run alike. So it ends here before it ends there, also for a process that was
/// stopped in the meantime: whatever it does first when it wakes finds that the term is over.
///
/// **A lapse is a gap.** When the term was over, here or there, or the server has lost the registry, somebody may
/// have waited for all members but this one. Then nothing from before is good: all flights and fences are to be
/// voided, and memory distrusted, before the new term [begins](SelfLease::begin).
///
/// What it cannot see: a machine that was suspended with its clock
/// ([`Clock::system`] stands still then, on Linux).
pub struct SelfLease {
    term: Duration,
    /// Read by every hit. 0: there is none.
    until: AtomicU64,
    /// The registry of the latest enrolment.
    registry: Mutex<Option<u64>>,
}

/// A term that begins after a lapse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it begins when what is from before is given up"]
pub struct Term {
    until: Timestamp,
    registry: u64,
}

impl SelfLease {
    /// Not enrolled yet. `term`: as it is asked of the server.
    pub fn new(term: Duration) -> Self {
        Self { term, until: AtomicU64::new(0), registry: Mutex::new(None) }
    }

    /// How long one enrolment is asked for.
    pub fn term(&self) -> Duration {
        self.term
    }

    /// How long after an enrolment was sent the next one is to be: a third of the term, so that two may fail.
    pub fn renew_after(&self) -> Duration {
        self.term / 3
    }

    /// Whether the term lasts. A coarse reading of the clock.
    #[inline]
    pub fn holds(&self, clock: &Clock) -> bool {
        !clock.has_reached(Timestamp::from_millis(self.until.load(Ordering::Acquire)))
    }

    /// Whether a term has begun and was not ended; it may be over.
    pub fn is_begun(&self) -> bool {
        self.until.load(Ordering::Acquire) != 0
    }

    /// The server has answered, at `now`, an enrolment that was sent at `sent`. `None`: the term goes on. Else it
    /// has lapsed: what is from before is to be given up, then the new one [begun](SelfLease::begin).
    pub fn on_enrolled(&self, sent: Timestamp, enrolled: Enrolled, now: Timestamp) -> Option<Term> {
        let lasts = self.term - self.term / 100;
        let until = if mutant!(LeasesItselfFromTheReply) { now + lasts } else { sent + lasts };
        let term = Term { until, registry: enrolled.registry };
        let registry = self.registry();
        let held = Timestamp::from_millis(self.until.load(Ordering::Acquire));
        let goes_on = enrolled.was_listed && *registry == Some(enrolled.registry) && now < held;
        if goes_on {
            self.until.store(held.max(until).as_millis(), Ordering::Release);
        }
        (!goes_on).then_some(term)
    }

    /// Begins a term after a lapse, when all that is from before is given up.
    pub fn begin(&self, term: Term) {
        let mut registry = self.registry();
        *registry = Some(term.registry);
        self.until.store(term.until.as_millis(), Ordering::Release);
    }

    /// Ends it: nobody need wait for this cache from now on.
    pub fn end(&self) {
        let mut registry = self.registry();
        *registry = None;
        self.until.store(0, Ordering::Release);
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SelfLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = Timestamp::from_millis(self.until.load(Ordering::Acquire));
        f.debug_struct("SelfLease").field("term", &self.term).field("until", &until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use cachalot_core::ManualClock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn enrolled(was_listed: bool, registry: u64) -> Enrolled {
        Enrolled { was_listed, registry }
    }

    fn begun(time: &ManualClock) -> SelfLease {
        let lease = SelfLease::new(10 * SECOND);
        assert!(!lease.holds(&time.clock()));
        let term = lease.on_enrolled(time.now(), enrolled(false, 7), time.now());
        assert!(!lease.holds(&time.clock()), "what is from before comes first");
        lease.begin(term.expect("the first term begins with a gap"));
        assert!(lease.holds(&time.clock()));
        lease
    }

    #[test]
    fn a_term_counts_from_when_it_was_sent_and_ends_before_the_servers() {
        let time = ManualClock::new();
        let lease = begun(&time);
        let sent = time.now();
        time.advance(5 * SECOND);
        assert_eq!(lease.on_enrolled(sent, enrolled(true, 7), time.now()), None);
        time.advance(Duration::from_millis(4_899));
        assert!(lease.holds(&time.clock()));
        time.advance(Duration::from_millis(1));
        assert!(!lease.holds(&time.clock()));
    }

    #[test]
    fn a_renewal_goes_on_and_one_that_was_sent_before_another_shortens_nothing() {
        let time = ManualClock::new();
        let lease = begun(&time);
        let early = time.now();
        time.advance(3 * SECOND);
        assert_eq!(lease.on_enrolled(time.now(), enrolled(true, 7), time.now()), None);
        assert_eq!(lease.on_enrolled(early, enrolled(true, 7), time.now()), None);
        time.advance(9 * SECOND);
        assert!(lease.holds(&time.clock()));
    }

    #[test]
    fn who_was_struck_off_or_is_in_another_registry_or_comes_too_late_has_lapsed() {
        for (was_listed, registry, late) in
            [(false, 7, SECOND), (true, 8, SECOND), (true, 7, 10 * SECOND), (true, 7, 9_900 * SECOND / 1000)]
        {
            let time = ManualClock::new();
            let lease = begun(&time);
            time.advance(late);
            let term = lease.on_enrolled(time.now(), enrolled(was_listed, registry), time.now());
            lease.begin(term.expect("a lapse"));
            assert!(lease.holds(&time.clock()));
        }
    }

    #[test]
    fn an_ended_one_does_not_hold_and_begins_anew() {
        let time = ManualClock::new();
        let lease = begun(&time);
        lease.end();
        assert!(!lease.holds(&time.clock()) && !lease.is_begun());
        let term = lease.on_enrolled(time.now(), enrolled(true, 7), time.now());
        assert!(term.is_some(), "somebody may have waited for all others meanwhile");
    }

    #[test]
    fn an_answer_that_takes_longer_than_the_term_begins_none() {
        let time = ManualClock::new();
        let lease = SelfLease::new(SECOND);
        let sent = time.now();
        time.advance(2 * SECOND);
        lease.begin(lease.on_enrolled(sent, enrolled(false, 1), time.now()).unwrap());
        assert!(!lease.holds(&time.clock()));
    }
}
