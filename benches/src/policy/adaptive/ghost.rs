//! Who was evicted, and when it was last read: two bytes a key.

/// Slots that are looked at together: sixteen bytes, one load.
const BUCKET: usize = 8;

/// Bits of a slot that hold an age; the others hold a print of the key.
const AGE_BITS: u32 = 6;
const EPOCHS: u16 = 1 << AGE_BITS;

/// An approximate memory of evicted keys. A slot is a print of ten bits and an epoch of six; 0 is empty.
///
/// Epochs wrap, so a slot that nobody clears looks young again: [`Ghost::sweep`] must come round in time.
#[derive(Clone, Debug)]
pub(super) struct Ghost {
    slots: Vec<u16>,
    swept: usize,
    /// Ages from here on are forgotten.
    age_max: u16,
}

impl Ghost {
    /// Room for `keys`; ages of `age_max` epochs and more, at most 63, are forgotten.
    pub(super) fn new(keys: usize, age_max: u16) -> Self {
        let buckets = keys.div_ceil(BUCKET).max(1);
        Self { slots: vec![0; buckets * BUCKET], swept: 0, age_max: age_max.min(EPOCHS - 1) }
    }

    /// Forgets what has grown too old in the next bucket.
    pub(super) fn sweep(&mut self, now: u16) {
        let bucket = self.swept;
        self.swept = (bucket + BUCKET) % self.slots.len();
        for slot in &mut self.slots[bucket..bucket + BUCKET] {
            if *slot != 0 && age(*slot, now) >= self.age_max {
                *slot = 0;
            }
        }
    }

    /// Forgets a key and returns how many epochs ago it was last read, if it was remembered.
    pub(super) fn take(&mut self, hash: u64, now: u16) -> Option<u16> {
        let print = print(hash);
        let slot = self.bucket(hash).iter_mut().find(|slot| **slot >> AGE_BITS == print)?;
        let age = age(*slot, now);
        *slot = 0;
        (age < self.age_max).then_some(age)
    }

    /// Remembers a key last read `age` epochs ago, in place of the oldest if there is no room.
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

    fn bucket(&mut self, hash: u64) -> &mut [u16] {
        let buckets = (self.slots.len() / BUCKET) as u128;
        let at = ((u128::from(hash) * buckets) >> 64) as usize * BUCKET;
        &mut self.slots[at..at + BUCKET]
    }
}

/// Ten bits of the hash that choose no bucket; never 0.
fn print(hash: u64) -> u16 {
    ((hash & 0x3ff) as u16).max(1)
}

fn age(slot: u16, now: u16) -> u16 {
    now.wrapping_sub(slot) % EPOCHS
}
