//! The bound on the total weight, kept by reservation.

use crate::sync::atomic::{AtomicU64, Ordering};

/// One counter for all shards. Weight is reserved before an entry is published and released after it is
/// taken out, so that what the shards hold never exceeds the capacity, not even for a moment.
///
/// On lines of its own: readers should not notice who reserves.
#[repr(align(128))]
pub(crate) struct Budget {
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity: AtomicU64::new(capacity), used: AtomicU64::new(0) }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Changes the bound. Whoever reserves does so under the lock of a shard, so the new bound binds everyone
    /// once each of these locks has been held after this.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// Whether more is reserved than the bound allows: it was lowered, and what has to leave has not left yet.
    pub(crate) fn is_over(&self) -> bool {
        self.used() > self.capacity()
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether less than a sixteenth is left.
    pub(crate) fn is_scarce(&self) -> bool {
        let capacity = self.capacity();
        self.used() >= capacity - capacity / 16
    }

    /// Turns a reservation of `held` into one of `wanted`, if there is room, or if that takes no more of it.
    pub(crate) fn exchange(&self, held: u64, wanted: u64) -> bool {
        if held == wanted {
            return true;
        }
        let capacity = self.capacity();
        let grow = |used: u64| {
            let after = (used - held).checked_add(wanted)?;
            (after <= capacity || wanted < held).then_some(after)
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }

    pub(crate) fn release(&self, weight: u64) {
        if weight > 0 {
            self.used.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_stops_at_the_capacity() {
        let budget = Budget::new(10);
        assert!(budget.exchange(0, 7));
        assert!(!budget.exchange(0, 4));
        assert!(budget.exchange(7, 10), "what is replaced makes room");
        budget.release(10);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn above_a_lowered_bound_only_less_can_be_reserved() {
        let budget = Budget::new(10);
        assert!(budget.exchange(0, 10));
        budget.set_capacity(4);
        assert!(budget.is_over());
        assert!(!budget.exchange(3, 4), "more");
        assert!(budget.exchange(4, 3));
        budget.release(5);
        assert!(!budget.is_over());
        assert_eq!((budget.used(), budget.capacity()), (4, 4));
    }

    #[test]
    fn the_largest_weights_do_not_wrap() {
        let budget = Budget::new(u64::MAX);
        assert!(budget.exchange(0, u64::MAX));
        assert!(!budget.exchange(0, 1));
        assert!(!budget.exchange(0, u64::MAX));
        assert_eq!(budget.used(), u64::MAX);
    }
}
