//! Who waits for the leases of keys, and is told when one has ended.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use cachalot_core::Key;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::timeout;

/// Keys share places: who is woken for another key's sake asks once more than needed.
pub(crate) struct Wakes([Notify; PLACES]);

/// As many as bits in the set of places of a [`Listening`].
const PLACES: usize = 64;

impl Default for Wakes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Notify::new()))
    }
}

impl Wakes {
    pub(crate) fn wake(&self, key: &Key) {
        self.0[place(key)].notify_waiters();
    }

    /// Hears from here on whether a lease of one of `keys` has ended. To be called before they are asked for: what
    /// comes between the answer and the wait is heard too.
    pub(crate) fn listen<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Listening<'_> {
        let places = keys.into_iter().fold(0u64, |places, key| places | 1 << place(key));
        let is_one = |at: &usize| places >> at & 1 == 1;
        let ears = (0..PLACES).filter(is_one).map(|at| Box::pin(self.0[at].notified()));
        Listening { ears: ears.collect() }
    }
}

fn place(key: &Key) -> usize {
    (key.fingerprint() % PLACES as u64) as usize
}

/// One who waits for leases. One box per place, at most 64, however many keys there are.
pub(crate) struct Listening<'a> {
    ears: Vec<Pin<Box<Notified<'a>>>>,
}

impl Listening<'_> {
    /// Waits for this long, or until woken; whether it was.
    pub(crate) async fn wait(mut self, at_most: Duration) -> bool {
        let woken = poll_fn(|cx| {
            let heard = self.ears.iter_mut().any(|ear| ear.as_mut().poll(cx).is_ready());
            if heard { Poll::Ready(()) } else { Poll::Pending }
        });
        timeout(at_most, woken).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn keys(count: usize) -> Vec<Key> {
        (0..count).map(|n| Key::new(format!("users:{n}").into_bytes())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_many_is_woken_by_any_of_them() {
        let (wakes, keys) = (Wakes::default(), keys(100));
        for key in &keys {
            let (woken, ()) = tokio::join!(wakes.listen(&keys).wait(LONG), async { wakes.wake(key) });
            assert!(woken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_before_the_wait_is_heard() {
        let (wakes, keys) = (Wakes::default(), keys(2));
        let listening = wakes.listen(&keys);
        wakes.wake(&keys[1]);
        assert!(listening.wait(LONG).await);
        assert!(!wakes.listen(&keys).wait(LONG).await, "but not what was said before it listened");
    }

    #[tokio::test(start_paused = true)]
    async fn another_keys_end_wakes_nobody_who_stands_elsewhere() {
        let (wakes, keys) = (Wakes::default(), keys(100));
        let other = keys.iter().find(|key| place(key) != place(&keys[0])).unwrap();
        let (woken, ()) = tokio::join!(wakes.listen(&keys[..1]).wait(LONG), async { wakes.wake(other) });
        assert!(!woken);
    }
}
