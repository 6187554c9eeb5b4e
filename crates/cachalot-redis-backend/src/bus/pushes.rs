//! What a Pub/Sub connection hears.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cachalot_core::{BusEvent, BusGap, EventQueue, Message};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

/// Takes what one connection delivers, on the connection's own task, and puts it into the queue. Once it is
/// retired nothing more comes of that connection, however late it is.
pub(super) struct Ear {
    queue: Arc<EventQueue>,
    state: Mutex<State>,
    /// The connection is gone.
    pub(super) broken: Notify,
}

#[derive(Default)]
struct State {
    confirmed: bool,
    retired: bool,
}

impl Ear {
    pub(super) fn new(queue: Arc<EventQueue>) -> Self {
        Self { queue, state: Mutex::default(), broken: Notify::new() }
    }

    /// A push of a connection that speaks RESP3.
    pub(super) fn on_push(&self, push: PushInfo) {
        match push.kind {
            PushKind::Subscribe => self.confirmed(),
            PushKind::Message => match push.data.into_iter().nth(1) {
                Some(Value::BulkString(bytes)) => self.message(bytes.into()),
                _ => self.message(Bytes::new()),
            },
            PushKind::Disconnection => self.broken.notify_one(),
            _ => {}
        }
    }

    /// The server has acknowledged the subscription.
    pub(super) fn confirmed(&self) {
        let mut state = self.lock();
        if !state.retired {
            state.confirmed = true;
            self.queue.push(BusEvent::Confirmed);
        }
    }

    pub(super) fn message(&self, bytes: Bytes) {
        let event = match Message::decode(bytes) {
            Ok(message) => BusEvent::Message(message),
            Err(_) => BusEvent::Gap(BusGap::Undecodable),
        };
        let state = self.lock();
        if !state.retired {
            self.queue.push(event);
        }
    }

    /// Hears nothing any more. Whether it had been confirmed.
    pub(super) fn retire(&self) -> bool {
        let mut state = self.lock();
        state.retired = true;
        if state.confirmed {
            self.queue.push(BusEvent::Interrupted);
        }
        state.confirmed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
