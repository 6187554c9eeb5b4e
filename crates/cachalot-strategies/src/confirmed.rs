//! Invalidations as callers hold them: done when awaited, or waited for until every process has done them.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cachalot_core::{BoxFuture, Error, ErrorKind, Member, Result, Roll, Store, Timestamp, mutant};
use cachalot_invalidation::Confirming as Waiting;
use tokio::time::{self, sleep};

use crate::cache::Cache;
use crate::engine::Engine;
use crate::fleet::{Fleet, Membership as Voice};
use crate::membership::{Enrolment, Membership};
use crate::write::Removal;

/// An invalidation that begins when it is first polled, and is done from then on, whoever leaves.
///
/// Await it for what became of it here and in the shared tier; other processes hear of it soon. Or let it be
/// [`confirmed`](Invalidation::confirmed) by all of them.
#[must_use = "nothing is invalidated until it is awaited"]
pub struct Invalidation<'a, T = Removal> {
    work: BoxFuture<'a, Result<T>>,
    cache: &'a dyn Confirms,
}

/// What became of an invalidation in all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it may not be confirmed"]
pub enum Confirmation {
    /// Every process of the fleet has given up what it had, or serves nothing any more from before: no read that
    /// begins from now on, in whichever process, sees a value from before.
    Confirmed,
    /// Done here and in the shared tier, but not all processes have answered in time. They will hear of it, as
    /// after any invalidation; until then they may serve the old value from their memories.
    Unconfirmed {
        /// Who has not answered, of those that are known.
        members: Vec<Member>,
        /// Whether there may be others that are not known: the shared tier could not say who there is, or it has
        /// lost its list, less than a term ago.
        may_lack_some: bool,
    },
    /// The shared tier has not taken it in time: [`Removal::Deferred`]. Nothing is confirmed; the replay goes on.
    Deferred,
}

impl Confirmation {
    /// Whether it is [`Confirmed`](Confirmation::Confirmed).
    pub fn is_confirmed(&self) -> bool {
        *self == Self::Confirmed
    }
}

impl<'a> Invalidation<'a, Removal> {
    /// Waits until **every** process has given up the old value, for `timeout` at most after the invalidation itself
    /// is done. For what must not be seen any more once the caller goes on: a permission that was withdrawn, say.
    ///
    /// All processes need [`membership`](crate::CacheBuilder::membership). Usually it takes a round trip to the
    /// shared tier and one over the bus. A process that does not answer, since it is dead, hangs or is cut off, is
    /// waited for until its registration ends; then it cannot serve what is in its memory either, also if it goes on
    /// after it was stopped. So one term and a round trip is the longest that it takes while the shared tier answers;
    /// a shorter `timeout` may end before: [`Unconfirmed`](Confirmation::Unconfirmed) says who has not answered. In
    /// the first term of a new fleet, and after the shared tier was restarted, replaced or has lost its list, it is
    /// waited until that term is over.
    ///
    /// If the shared tier cannot be reached, the replay is waited for first.
    ///
    /// It costs one message to each process, an answer from each to all, and a command of the shared tier for each
    /// time that it is looked who is left (after 0.1 s, 0.2 s, 0.4 s and so on).
    ///
    /// ```
    /// # use cachalot_core::Entry;
    /// # use cachalot_invalidation::LocalBus;
    /// # use cachalot_memory_backend::{Memory, MemoryBackend};
    /// # use cachalot_strategies::{Cache, Confirmation};
    /// # use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (shared, bus) = (MemoryBackend::new(), LocalBus::new());
    /// # let clock = cachalot_testkit::tokio_clock();
    /// # let shared = MemoryBackend::with_limit(1 << 20, clock.clone());
    /// let cache: Cache<u64, String, Memory<u64, Arc<Entry<String>>>> = Cache::builder("grants")
    ///     .memory(Memory::entries(1_000))
    /// #   .clock(clock)
    ///     .backend(shared)
    ///     .bus(bus)
    ///     .membership(Duration::from_secs(10))
    ///     .build()?;
    ///
    /// match cache.remove(&7).confirmed(Duration::from_secs(12)).await? {
    ///     Confirmation::Confirmed => {}
    ///     Confirmation::Unconfirmed { members, .. } => println!("no answer from {members:?}"),
    ///     Confirmation::Deferred => println!("the shared tier is down"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the invalidation; [`Unsupported`](ErrorKind::Unsupported) if the cache is built without
    /// [`membership`](crate::CacheBuilder::membership): then nothing is invalidated.
    ///
    /// # Dropping the future
    /// The invalidation is done; only the wait ends.
    pub fn confirmed(self, timeout: Duration) -> ConfirmedInvalidation<'a> {
        self.waiting_for(timeout, |removal| removal == Removal::Deferred)
    }
}

impl<'a> Invalidation<'a, Vec<Removal>> {
    /// As for [one key](Invalidation::confirmed), for all of them together. Deferred if one of them is.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Dropping the future
    /// As there.
    pub fn confirmed(self, timeout: Duration) -> ConfirmedInvalidation<'a> {
        self.waiting_for(timeout, |removals| removals.contains(&Removal::Deferred))
    }
}

impl<'a, T: 'a> Invalidation<'a, T> {
    fn waiting_for(self, timeout: Duration, is_deferred: fn(T) -> bool) -> ConfirmedInvalidation<'a> {
        let Self { work, cache } = self;
        let work = Box::pin(async move { work.await.map(is_deferred) });
        ConfirmedInvalidation { waits: cache.confirm(work, timeout) }
    }
}

impl<T> Future for Invalidation<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.work.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Invalidation<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalidation")
    }
}

/// An [`Invalidation`] that waits for all processes. Made by [`Invalidation::confirmed`].
#[must_use = "nothing is invalidated until it is awaited"]
pub struct ConfirmedInvalidation<'a> {
    waits: BoxFuture<'a, Result<Confirmation>>,
}

impl Future for ConfirmedInvalidation<'_> {
    type Output = Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.waits.as_mut().poll(cx)
    }
}

impl fmt::Debug for ConfirmedInvalidation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfirmedInvalidation")
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// `work` as an invalidation; refused at once if it is an error.
    pub(crate) fn invalidation<'a, T: Send + 'static>(
        &'a self,
        operation: &'static str,
        work: Result<impl Future<Output = T> + Send + 'static>,
    ) -> Invalidation<'a, T> {
        let engine = &self.engine;
        let work = Box::pin(async move { engine.detached(operation, work?).await });
        Invalidation { work, cache: &**engine }
    }
}

/// A cache whose invalidations can be waited for, whatever its types.
trait Confirms: Send + Sync {
    /// Waits for `work`, which tells whether it was deferred, then for all members.
    fn confirm<'a>(
        &'a self,
        work: BoxFuture<'a, Result<bool>>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Confirmation>>;
}

impl<K, V, S> Confirms for Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    fn confirm<'a>(
        &'a self,
        work: BoxFuture<'a, Result<bool>>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Confirmation>> {
        Box::pin(async move {
            let (Some(Voice(fleet)), Some(Membership(enrolment))) = (&self.fleet, &self.membership) else {
                let detail = "the cache is built without `membership`: nothing was invalidated";
                return Err(Error::new(ErrorKind::Unsupported, "confirmed").detail(detail));
            };
            // From here on what is announced asks for an answer.
            let _asking = fleet.ask_for_answers();
            let too_early = if mutant!(ReadsTheMembersFirst) { Some(enrolment.roll().await) } else { None };
            let is_deferred = work.await?;
            let deadline = self.clock.now() + timeout;
            if is_deferred && !self.is_replayed(deadline).await {
                return Ok(Confirmation::Deferred);
            }
            Ok(self.wait_for_members(fleet, enrolment, deadline, too_early.and_then(Result::ok)).await)
        })
    }
}

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Waits until what is deferred by now is replayed, and announced once more. Whether it was, in time.
    async fn is_replayed(&self, deadline: Timestamp) -> bool {
        let mark = self.deferred.mark();
        while self.deferred.holds_from_before(mark) {
            let left = deadline.since(self.clock.now());
            if left.is_zero() {
                return false;
            }
            sleep(LOOK.min(left)).await;
        }
        true
    }

    /// The invalidation is done and announced. Only now is it read who is there: who registers later gives up what
    /// is from before.
    async fn wait_for_members(
        &self,
        fleet: &Fleet,
        enrolment: &Enrolment,
        deadline: Timestamp,
        too_early: Option<Roll>,
    ) -> Confirmation {
        let term = enrolment.lease.term();
        let mut waiting = Waiting::new(enrolment.id(), fleet.promised(), term, self.clock.now());
        let mut has_asked = false;
        if let Some(roll) = too_early {
            waiting.on_roll(roll, self.clock.now());
        }
        loop {
            let acked = enrolment.acked();
            waiting.on_acks(&enrolment.acks());
            if waiting.is_confirmed() {
                return Confirmation::Confirmed;
            }
            let now = self.clock.now();
            if now >= deadline {
                let (members, may_lack_some) = (waiting.unanswered(), waiting.may_lack_some());
                return Confirmation::Unconfirmed { members, may_lack_some };
            }
            if now < waiting.next_look() {
                // Whichever comes first.
                let _ = time::timeout(waiting.next_look().min(deadline).since(now), acked).await;
                continue;
            }
            // Whoever has answered by then is not asked again: the announcement has asked it.
            if std::mem::replace(&mut has_asked, true) {
                fleet.ask_again();
            }
            match time::timeout(deadline.since(now), enrolment.roll()).await {
                Ok(Ok(roll)) => waiting.on_roll(roll, self.clock.now()),
                Ok(Err(error)) => {
                    self.backend_failed(&error);
                    waiting.on_failure(self.clock.now());
                }
                // The deadline.
                Err(_) => {}
            }
        }
    }
}

/// How often it is looked whether a replay is done.
const LOOK: Duration = Duration::from_millis(20);
