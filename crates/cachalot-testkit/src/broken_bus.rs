//! Buses that break one sentence of the contract each: they prove the suite.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use cachalot_core::{Body, Bus, BusEvent, BusInfo, Key, Message, PublisherId, Result, Subject, Subscription};

/// What is wrong with a [`BrokenBus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusDefect {
    /// Delivers a message that is there before it says that the subscription stands.
    ConfirmsLate,
    /// Does not deliver what its own end has published.
    DeafToItself,
    /// Delivers only to the first who subscribes.
    OneSubscriber,
    /// Delivers each two messages in the wrong order, if both are there.
    SwapsNeighbours,
    /// Ends names at their first zero byte.
    CutsNames,
    /// Forgets that an invalidation is pending.
    ForgetsPending,
    /// Loses what is larger than 64 KiB.
    LosesBigMessages,
    /// Takes what is too large, and says nothing.
    TakesTooMuch,
    /// Loses a message if the caller leaves in the middle of `next`.
    LosesOnDrop,
    /// Drops what does not fit, and says nothing.
    DropsInSilence,
    /// Connects again, and says nothing.
    ReconnectsInSilence,
    /// Says that nothing was missed when it connects again.
    SaysResumed,
    /// Waits for ever on a bus that has ended.
    NeverEnds,
}

impl BusDefect {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::ConfirmsLate,
        Self::DeafToItself,
        Self::OneSubscriber,
        Self::SwapsNeighbours,
        Self::CutsNames,
        Self::ForgetsPending,
        Self::LosesBigMessages,
        Self::TakesTooMuch,
        Self::LosesOnDrop,
        Self::DropsInSilence,
        Self::ReconnectsInSilence,
        Self::SaysResumed,
        Self::NeverEnds,
    ];
}

/// A bus with one [`BusDefect`].
#[derive(Debug)]
pub struct BrokenBus {
    inner: Arc<dyn Bus>,
    defect: BusDefect,
    own: Arc<Mutex<Vec<PublisherId>>>,
    subscribers: AtomicUsize,
}

impl BrokenBus {
    /// Breaks `inner`.
    pub fn new(inner: Arc<dyn Bus>, defect: BusDefect) -> Self {
        Self { inner, defect, own: Arc::default(), subscribers: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Bus for BrokenBus {
    fn info(&self) -> BusInfo {
        self.inner.info()
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        if self.defect == BusDefect::TakesTooMuch && message.encode().is_err() {
            return Ok(());
        }
        if self.defect == BusDefect::DeafToItself {
            self.own.lock().unwrap_or_else(PoisonError::into_inner).push(message.publisher);
        }
        self.inner.publish(message).await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        let first = self.subscribers.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(Box::new(BrokenSubscription {
            inner: self.inner.subscribe().await?,
            defect: self.defect,
            own: self.own.clone(),
            first,
            heard: 0,
            back: None,
        }))
    }
}

struct BrokenSubscription {
    inner: Box<dyn Subscription>,
    defect: BusDefect,
    own: Arc<Mutex<Vec<PublisherId>>>,
    first: bool,
    heard: usize,
    /// To be delivered next.
    back: Option<BusEvent>,
}

#[async_trait]
impl Subscription for BrokenSubscription {
    async fn next(&mut self) -> Result<BusEvent> {
        if let Some(event) = self.back.take() {
            return Ok(event);
        }
        loop {
            let event = match self.inner.next().await {
                Err(_) if self.defect == BusDefect::NeverEnds => std::future::pending().await,
                outcome => outcome?,
            };
            self.heard += 1;
            if self.defect == BusDefect::LosesOnDrop {
                let mut once = false;
                poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if std::mem::replace(&mut once, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            if let Some(event) = self.shown(event).await {
                return Ok(event);
            }
        }
    }
}

impl BrokenSubscription {
    /// What becomes of an event; `None`: it is lost.
    async fn shown(&mut self, event: BusEvent) -> Option<BusEvent> {
        let is_message = matches!(event, BusEvent::Message(_));
        let late = match self.defect {
            BusDefect::ConfirmsLate => self.heard == 1,
            BusDefect::SwapsNeighbours => is_message,
            _ => false,
        };
        if late && let Some(next) = self.at_once().await {
            self.back = Some(event);
            return Some(next);
        }
        let is_gap = matches!(event, BusEvent::Gap(_));
        match self.defect {
            BusDefect::OneSubscriber if is_message && !self.first => None,
            BusDefect::DropsInSilence if is_gap => None,
            BusDefect::ReconnectsInSilence if self.heard > 1 && !is_message && !is_gap => None,
            BusDefect::SaysResumed if self.heard > 1 && event == BusEvent::Confirmed => {
                Some(BusEvent::Resumed)
            }
            _ => self.shown_message(event),
        }
    }

    /// The next event, if it is there.
    async fn at_once(&mut self) -> Option<BusEvent> {
        let mut next = self.inner.next();
        poll_fn(|context| match next.as_mut().poll(context) {
            Poll::Ready(event) => Poll::Ready(event.ok()),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn shown_message(&self, event: BusEvent) -> Option<BusEvent> {
        let BusEvent::Message(mut message) = event else {
            return Some(event);
        };
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.contains(&message.publisher) {
            return None;
        }
        let subjects = match &mut message.body {
            Body::Invalidations { subjects, .. } => subjects.as_mut_slice(),
            _ => &mut [],
        };
        let names: usize = subjects.iter().map(|subject| subject.name().len()).sum();
        if self.defect == BusDefect::LosesBigMessages && names > 64 * 1024 {
            return None;
        }
        subjects.iter_mut().for_each(|subject| spoil(subject, self.defect));
        Some(BusEvent::Message(message))
    }
}

fn spoil(subject: &mut Subject, defect: BusDefect) {
    let Subject::Key { key, pending } = subject else {
        return;
    };
    match defect {
        BusDefect::ForgetsPending => *pending = false,
        BusDefect::CutsNames => {
            let end = key.as_bytes().iter().position(|byte| *byte == 0);
            *key = Key::new(key.as_bytes()[..end.unwrap_or(key.as_bytes().len())].to_vec());
        }
        _ => {}
    }
}
