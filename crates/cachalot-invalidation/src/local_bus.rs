//! A bus within one process.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cachalot_core::{Bus, BusEvent, BusInfo, Error, ErrorKind, EventQueue, Message, Result, Subscription};

/// A [`Bus`] for several caches in one process, and for tests. Clones are one bus.
///
/// Each subscriber has a queue of its own, which keeps up to 1,024 messages and 8 MiB; who reads too slowly
/// finds a gap. Nothing else is ever lost. Publishing awaits nothing.
#[derive(Clone)]
pub struct LocalBus {
    shared: Arc<Shared>,
}

struct Shared {
    max_messages: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    subscribers: Vec<Arc<EventQueue>>,
    is_closed: bool,
}

const MAX_MESSAGES: usize = 1024;
const MAX_BYTES: usize = 8 << 20;

impl LocalBus {
    /// A bus without subscribers.
    pub fn new() -> Self {
        Self::with_queue(MAX_MESSAGES)
    }

    /// A bus that keeps up to so many messages per subscriber; at least 2.
    pub fn with_queue(max_messages: usize) -> Self {
        Self { shared: Arc::new(Shared { max_messages, state: Mutex::default() }) }
    }

    /// Ends the bus: subscribers read what they have, then find it closed.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        let subscribers = std::mem::take(&mut state.subscribers);
        drop(state);
        subscribers.iter().for_each(|queue| queue.close());
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.shared.lock().subscribers.len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LocalBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBus").field("subscribers", &self.subscribers()).finish()
    }
}

#[async_trait]
impl Bus for LocalBus {
    fn info(&self) -> BusInfo {
        BusInfo::new("local", "")
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        message.check()?;
        let state = self.shared.lock();
        if state.is_closed {
            return Err(closed("local bus publish"));
        }
        // Under the lock, so that all subscribers see the messages in one order.
        state.subscribers.iter().for_each(|queue| queue.push(BusEvent::Message(message.clone())));
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        let queue = Arc::new(EventQueue::new(self.shared.max_messages, MAX_BYTES));
        queue.push(BusEvent::Confirmed);
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(closed("local bus subscribe"));
        }
        state.subscribers.push(queue.clone());
        Ok(Box::new(LocalSubscription { queue, shared: self.shared.clone() }))
    }
}

struct LocalSubscription {
    queue: Arc<EventQueue>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Result<BusEvent> {
        let event = poll_fn(|context| self.queue.poll_pop(context)).await;
        event.ok_or_else(|| closed("local bus next"))
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.shared.lock().subscribers.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation)
}
