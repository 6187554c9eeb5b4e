//! Who was evicted, and when it was last read: two bytes a key.

use crate::set::prefetch;

/// Slots that are looked at together: sixteen bytes, one load.
const BUCKET: usize = 8;

/// Bits of a slot that hold an age; the others hold a print of the key.
const AGE_BITS: u32 = 6;
const EPOCHS: u16 = 1 << AGE_BITS;

/// An approximate memory of evicted keys. A slot is a print of ten bits and an epoch of six; 0 is empty.
///
/// Epochs wrap, so a slot that nobody clears looks young again: [`Ghost::sweep`] must come round in time.
#[derive(Clone, Debug, Default)]
pub(super) struct Ghost {
    slots: Box<[u16]>,
    swept: usize,
    /// Ages from here on are forgotten.
    age_max: u16,
}

impl Ghost {
    /// Sees to it that there is room for `keys`; ages of `age_max` epochs and more, at most 63, are forgotten.
    /// Forgets everything if it has to grow, or is far too large.
    pub(super) fn grow_to(&mut self, keys: usize, age_max: u16) {
        if self.slots.len() < keys || self.slots.len() > 4 * keys + BUCKET {
            // One that has to grow once will have to again, and forgets less often with room to spare.
            let spare = if self.slots.is_empty() { 0 } else { keys / 4 };
            let buckets = (keys + spare).div_ceil(BUCKET).max(1);
            self.slots = vec![0; buckets * BUCKET].into_boxed_slice();
            self.swept = 0;
        }
        self.age_max = age_max.min(EPOCHS - 1);
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Forgets what has grown too old in the next bucket.
    pub(super) fn sweep(&mut self, now: u16) {
        let age_max = self.age_max;
        let Some(bucket) = self.slots.get_mut(self.swept..self.swept + BUCKET) else {
            return;
        };
        for slot in bucket {
            if age(*slot, now) >= age_max {
                *slot = 0;
            }
        }
        self.swept = (self.swept + BUCKET) % self.slots.len();
    }

    /// Forgets a key and returns how many epochs ago it was last read, if it was remembered.
    pub(super) fn take(&mut self, hash: u64, now: u16) -> Option<u16> {
        let (print, age_max) = (print(hash), self.age_max);
        let slot = self.bucket(hash).iter_mut().find(|slot| **slot >> AGE_BITS == print)?;
        let age = age(*slot, now);
        *slot = 0;
        (age < age_max).then_some(age)
    }

    /// Remembers a key last read `age_now` epochs ago, in place of the oldest if there is no room.
    pub(super) fn put(&mut self, hash: u64, now: u16, age_now: u16) {
        if age_now >= self.age_max {
            return;
        }
        let print = print(hash);
        let order = |slot: u16| match slot {
            slot if slot >> AGE_BITS == print => u16::MAX,
            0 => u16::MAX - 1,
            slot => age(slot, now),
        };
        if let Some(slot) = self.bucket(hash).iter_mut().max_by_key(|slot| order(**slot)) {
            *slot = (print << AGE_BITS) | (now.wrapping_sub(age_now) % EPOCHS);
        }
    }

    /// Asks for the bucket of a key.
    pub(super) fn warm(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.place(hash)) {
            prefetch(slot);
        }
    }

    fn place(&self, hash: u64) -> usize {
        let buckets = (self.slots.len() / BUCKET) as u128;
        ((u128::from(hash) * buckets) >> 64) as usize * BUCKET
    }

    fn bucket(&mut self, hash: u64) -> &mut [u16] {
        let at = self.place(hash);
        self.slots.get_mut(at..at + BUCKET).unwrap_or_default()
    }
}

/// Ten bits of the hash that choose no bucket; never 0.
fn print(hash: u64) -> u16 {
    ((hash & 0x3ff) as u16).max(1)
}

fn age(slot: u16, now: u16) -> u16 {
    now.wrapping_sub(slot) % EPOCHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mix;

    fn ghost(keys: usize) -> Ghost {
        let mut ghost = Ghost::default();
        ghost.grow_to(keys, 49);
        ghost
    }

    #[test]
    fn a_key_is_remembered_once_with_its_age() {
        let mut ghost = ghost(100);
        ghost.put(mix(1), 10, 3);
        assert_eq!(ghost.take(mix(1), 12), Some(5));
        assert_eq!(ghost.take(mix(1), 12), None);
    }

    #[test]
    fn most_keys_are_remembered_and_few_are_imagined() {
        let mut ghost = ghost(4000);
        (0..4000).for_each(|key| ghost.put(mix(key), 0, 0));
        let remembered = (0..4000).filter(|&key| ghost.take(mix(key), 1).is_some()).count();
        assert!(remembered > 3000, "{remembered}");
        (0..4000).for_each(|key| ghost.put(mix(key), 0, 0));
        let imagined = (10_000..14_000).filter(|&key| ghost.take(mix(key), 1).is_some()).count();
        assert!(imagined < 80, "{imagined}");
    }

    #[test]
    fn what_is_old_is_forgotten_before_it_looks_young() {
        let mut ghost = ghost(800);
        (0..800).for_each(|key| ghost.put(mix(key), 0, 0));
        for now in 0..100 {
            (0..200).for_each(|_| ghost.sweep(now));
        }
        assert!((0..800).all(|key| ghost.take(mix(key), 100 % 64).is_none()));
    }

    #[test]
    fn an_empty_one_remembers_nothing() {
        let mut ghost = Ghost::default();
        ghost.put(1, 0, 0);
        ghost.sweep(0);
        assert_eq!(ghost.take(1, 0), None);
    }
}
