//! One caller of `get_or_load`.

use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cachalot_core::{EntryOptions, Freshness, Hit, LoadError, Store};
use cachalot_stampede::{Follow, Joined};

use super::{Answer, Role, Seat, Waited, Weighed, ask_tags, gave_nothing, landed, may_revalidate};
use crate::cached::{Cached, Found, StaleReason};
use crate::early::RefreshMode;
use crate::engine::Engine;
use crate::flight::{Failed, LoadFuture, Outcome, Purpose, Wanted};
use crate::load::Load;

/// What a caller asks for.
pub(crate) trait Asks<V>: Sized {
    const WANTED: Wanted;

    fn of(answer: Option<Cached<V>>) -> Result<Self, LoadError>;
}

impl<V> Asks<V> for Cached<V> {
    const WANTED: Wanted = Wanted::Value;

    #[inline]
    fn of(answer: Option<Self>) -> Result<Self, LoadError> {
        answer.ok_or_else(gave_nothing)
    }
}

impl<V> Asks<V> for Option<Cached<V>> {
    const WANTED: Wanted = Wanted::ValueOrAbsence;

    #[inline]
    fn of(answer: Self) -> Result<Self, LoadError> {
        Ok(answer)
    }
}

/// A call. Written by hand, since ten thousand of them may wait at once: it keeps what it was called with and a
/// share in the flight, once. What few callers need is in a box.
pub(crate) struct Read<'a, K, V, S, L, A> {
    engine: &'a Arc<Engine<K, V, S>>,
    key: &'a K,
    options: &'a EntryOptions,
    /// `None`: it runs.
    load: Option<L>,
    stand: Stand<'a, V>,
    asks: PhantomData<fn() -> A>,
}

/// Nothing in it is pinned.
impl<K, V, S, L, A> Unpin for Read<'_, K, V, S, L, A> {}

enum Stand<'a, V> {
    /// Has not been polled.
    New,
    /// Is to ask, or to ask again.
    Asking,
    Waiting(Follow<Outcome<V>>, Role),
    Aside(Aside<'a, V>),
}

/// Why a caller gets no share in a flight.
enum TurnedAway {
    Now(LoadError),
    /// A failure that is remembered.
    ForAWhile(LoadError),
}

/// A way that few callers go. `None`: to ask again.
type Aside<'a, V> = Pin<Box<dyn Future<Output = Option<Answer<V>>> + Send + 'a>>;

impl<'a, K, V, S, L, A> Read<'a, K, V, S, L, A> {
    pub(crate) fn new(
        engine: &'a Arc<Engine<K, V, S>>,
        key: &'a K,
        options: &'a EntryOptions,
        load: L,
    ) -> Self {
        Self { engine, key, options, load: Some(load), stand: Stand::New, asks: PhantomData }
    }
}

impl<K, V, S, L, A> Future for Read<'_, K, V, S, L, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    L: FnOnce(Load<K>) -> LoadFuture<V>,
    A: Asks<V>,
{
    type Output = Result<A, LoadError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Stand::New = this.stand else { return this.poll_below(cx) };
        match this.engine.glance(this.key) {
            Some((hit, true)) => {
                this.engine.emit_memory_hit();
                Poll::Ready(A::of(Some(Cached::plain(hit))))
            }
            other => this.poll_first(other.map(|(hit, _)| hit), cx),
        }
    }
}

impl<'a, K, V, S, L, A> Read<'a, K, V, S, L, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    L: FnOnce(Load<K>) -> LoadFuture<V>,
    A: Asks<V>,
{
    #[cold]
    #[inline(never)]
    fn poll_first(&mut self, hit: Option<Hit<V>>, cx: &mut Context<'_>) -> Poll<Result<A, LoadError>> {
        self.engine.arrive();
        let in_memory = hit.map(Found::in_memory);
        let due = in_memory.as_ref().filter(|found| self.is_due(found));
        let answer = match due {
            Some(found) => {
                let found = found.clone();
                self.engine.emit_memory_hit();
                self.refresh(found)
            }
            None => self.ask(in_memory),
        };
        match answer {
            Some(answer) => Poll::Ready(A::of(answer?)),
            None => self.poll_below(cx),
        }
    }

    #[cold]
    #[inline(never)]
    fn poll_below(&mut self, cx: &mut Context<'_>) -> Poll<Result<A, LoadError>> {
        loop {
            let answer = match &mut self.stand {
                Stand::New | Stand::Asking => {
                    let in_memory = self.engine.look(self.key).map(Found::in_memory);
                    self.ask(in_memory)
                }
                Stand::Waiting(follow, role) => {
                    let (engine, options, role) = (self.engine, self.options, *role);
                    let content = |offer: &_| engine.is_content(options, A::WANTED, false, offer);
                    let Poll::Ready(landing) = follow.poll_wait(cx, content) else { return Poll::Pending };
                    let waited = mem::replace(&mut self.stand, Stand::Asking);
                    match landed(landing) {
                        Ok(landed) => self.weigh(waited, role, landed),
                        Err(error) => Some(Err(error)),
                    }
                }
                Stand::Aside(way) => {
                    let Poll::Ready(answer) = way.as_mut().poll(cx) else { return Poll::Pending };
                    self.stand = Stand::Asking;
                    answer
                }
            };
            if let Some(answer) = answer {
                return Poll::Ready(A::of(answer?));
            }
        }
    }

    /// Whether `found`, if it is fresh, is to be refreshed by this read.
    fn is_due(&self, found: &Found<V>) -> bool {
        let is_hit = found.freshness == Freshness::Fresh && !found.is_negative();
        let meta = &found.entry.meta;
        is_hit && meta.is_early(found.at) && self.engine.is_due(self.key, meta, found.at)
    }

    /// Refreshes what was found in memory. It is the answer, unless the caller is to wait for the new one.
    fn refresh(&mut self, found: Found<V>) -> Option<Answer<V>> {
        let (engine, options) = (self.engine, self.options);
        let follow =
            self.load.take().and_then(|load| engine.begin_refresh(self.key, options, A::WANTED, load));
        match follow {
            Some(follow) if engine.refresh.mode == RefreshMode::Inline => {
                self.stand = Stand::Aside(Box::pin(async move {
                    let landed = engine.refreshed(follow, options, A::WANTED).await;
                    Some(Ok(Cached::new(landed.unwrap_or(found))))
                }));
                None
            }
            _ => Some(Ok(Cached::new(found))),
        }
    }

    /// Answers from what memory has, or takes a share in the flight of the key: leads it, if nobody does.
    fn ask(&mut self, in_memory: Option<Found<V>>) -> Option<Answer<V>> {
        let (engine, key, options) = (self.engine, self.key, self.options);
        let at_hand = in_memory.filter(|found| A::WANTED.accepts(found));
        if let Some(found) = at_hand.as_ref().filter(|found| found.freshness == Freshness::Fresh) {
            engine.emit_memory_hit();
            return Some(Ok(Cached::new(found.clone())));
        }
        if let Some(error) = engine.remembered(key) {
            self.back_off(error);
            return None;
        }
        if let Err(closed) = engine.check_open("load") {
            return Some(Err(closed.into()));
        }
        let purpose = if at_hand.is_some() { Purpose::Renew } else { Purpose::Answer };
        let (follow, role) = match self.take_share(purpose) {
            Ok(share) => share,
            Err(TurnedAway::Now(error)) => return Some(Err(error)),
            Err(TurnedAway::ForAWhile(error)) => {
                self.back_off(error);
                return None;
            }
        };
        if let Some(found) = at_hand.filter(|found| may_revalidate(options, found)) {
            return Some(Ok(engine.serve_stale(found, StaleReason::Revalidating)));
        }
        self.stand = match options.soft_timeout {
            Duration::MAX => Stand::Waiting(follow, role),
            _ => {
                let seat = Seat { role, at_hand: None, follow, may_load: self.load.is_some() };
                Stand::Aside(Box::pin(engine.conclude(key, options, A::WANTED, seat)))
            }
        };
        None
    }

    fn back_off(&mut self, error: LoadError) {
        let (engine, key, options) = (self.engine, self.key, self.options);
        let back_off = async move { Some(engine.back_off(key, options, A::WANTED, error).await) };
        self.stand = Stand::Aside(Box::pin(back_off));
    }

    fn take_share(&mut self, purpose: Purpose) -> Result<(Follow<Outcome<V>>, Role), TurnedAway> {
        let engine = self.engine;
        match engine.join(self.key) {
            Joined::Lead(lead, follow) => {
                // Another flight may have failed between this caller's look and its join.
                if let Some(error) = engine.remembered(self.key) {
                    lead.land(Err(Failed { error: error.clone(), stale: None }));
                    return Err(TurnedAway::ForAWhile(error));
                }
                let load = self.load.take().ok_or_else(gave_nothing).map_err(TurnedAway::Now)?;
                match engine.admit("load") {
                    Ok(task) => engine.take_off(task, lead, self.options, A::WANTED, purpose, load),
                    Err(closed) => lead.land(Err(Failed { error: closed.into(), stale: None })),
                }
                Ok((follow, Role::LEADER))
            }
            Joined::Follow(follow) => {
                ask_tags(&follow, self.options);
                Ok((follow, Role::follower(engine.seen.count())))
            }
        }
    }

    /// `None`: to go on from the new stand. `stand` is where it has waited.
    fn weigh(&mut self, mut stand: Stand<'a, V>, role: Role, waited: Waited<V>) -> Option<Answer<V>> {
        let (engine, key, options) = (self.engine, self.key, self.options);
        match engine.weigh(key, options, A::WANTED, role, waited) {
            Weighed::Answer(answer) => Some(answer),
            Weighed::Refused => {
                // Without its loader it cannot lead another flight, but its own goes on.
                if let Stand::Waiting(follow, _) = &mut stand
                    && self.load.is_none()
                    && follow.insist()
                {
                    self.stand = stand;
                }
                None
            }
            Weighed::Sent(error) => {
                self.stand = Stand::Aside(Box::pin(async move {
                    let found = engine.find_after(key, options, A::WANTED).await;
                    Some(engine.give_up(found, role, error))
                }));
                None
            }
        }
    }
}
