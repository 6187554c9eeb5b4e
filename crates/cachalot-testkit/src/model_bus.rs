//! The reference of a bus.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cachalot_core::{Bus, BusEvent, BusInfo, Error, ErrorKind, EventQueue, Message, Result, Subscription};

/// A [`Bus`] in memory that satisfies [`bus_suite!`](crate::bus_suite!): small queues, messages in their byte
/// form, connections that break when told. Clones are one bus.
#[derive(Clone, Default)]
pub struct ModelBus {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    subscribers: Vec<Arc<EventQueue>>,
    is_broken: bool,
    is_closed: bool,
}

/// What a subscriber may leave unread.
const MAX_EVENTS: usize = 256;
const MAX_BYTES: usize = 4 << 20;

impl ModelBus {
    /// A bus without subscribers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Breaks all connections: nobody hears anything until [`mend`](ModelBus::mend).
    pub fn break_connections(&self) {
        let mut state = self.lock();
        state.is_broken = true;
        state.tell(&BusEvent::Interrupted);
    }

    /// Lets subscribers connect again.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.is_broken = false;
        state.tell(&BusEvent::Confirmed);
    }

    /// Ends the bus.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.subscribers.drain(..).for_each(|queue| queue.close());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts `event` before all who listen.
    fn tell(&mut self, event: &BusEvent) {
        // One whose subscription was dropped has no other owner.
        self.subscribers.retain(|queue| Arc::strong_count(queue) > 1);
        self.subscribers.iter().for_each(|queue| queue.push(event.clone()));
    }
}

impl fmt::Debug for ModelBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelBus")
    }
}

#[async_trait]
impl Bus for ModelBus {
    fn info(&self) -> BusInfo {
        BusInfo::new("model bus", "")
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let bytes = message.encode()?;
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Closed, "model bus publish"));
        }
        if state.is_broken {
            return Err(Error::new(ErrorKind::Unavailable, "model bus publish"));
        }
        state.tell(&BusEvent::Message(Message::decode(bytes)?));
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        let queue = Arc::new(EventQueue::new(MAX_EVENTS, MAX_BYTES));
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Closed, "model bus subscribe"));
        }
        if !state.is_broken {
            queue.push(BusEvent::Confirmed);
        }
        state.subscribers.push(queue.clone());
        Ok(Box::new(ModelSubscription(queue)))
    }
}

struct ModelSubscription(Arc<EventQueue>);

#[async_trait]
impl Subscription for ModelSubscription {
    async fn next(&mut self) -> Result<BusEvent> {
        let event = poll_fn(|context| self.0.poll_pop(context)).await;
        event.ok_or_else(|| Error::new(ErrorKind::Closed, "model bus next"))
    }
}
