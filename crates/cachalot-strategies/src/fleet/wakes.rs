//! Who waits for the lease of a key, and is told when it has ended.

use std::time::Duration;

use cachalot_core::Key;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Keys share places: who is woken for another key's sake asks once more than needed.
pub(crate) struct Wakes([Notify; PLACES]);

const PLACES: usize = 64;

impl Default for Wakes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Notify::new()))
    }
}

impl Wakes {
    pub(crate) fn wake(&self, key: &Key) {
        self.place(key).notify_waiters();
    }

    /// Waits for this long, or until woken; whether it was. A call that came before is not heard.
    pub(crate) async fn wait(&self, key: &Key, at_most: Duration) -> bool {
        timeout(at_most, self.place(key).notified()).await.is_ok()
    }

    fn place(&self, key: &Key) -> &Notify {
        &self.0[(key.fingerprint() % PLACES as u64) as usize]
    }
}
