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
    decode: Decode,
    state: Mutex<State>,
    /// The connection is gone.
    pub(super) broken: Notify,
}

#[derive(Default)]
struct State {
    confirmed: bool,
    retired: bool,
}

/// What a payload of the channel says.
pub(crate) type Decode = Arc<dyn Fn(Bytes) -> BusEvent + Send + Sync>;

/// As our own buses have it.
pub(super) fn message(bytes: Bytes) -> BusEvent {
    match Message::decode(bytes) {
        Ok(message) => BusEvent::Message(message),
        Err(_) => BusEvent::Gap(BusGap::Undecodable),
    }
}

impl Ear {
    pub(super) fn new(queue: Arc<EventQueue>, decode: Decode) -> Self {
        Self { queue, decode, state: Mutex::default(), broken: Notify::new() }
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
        let event = (self.decode)(bytes);
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use cachalot_core::{Body, Namespace, PublisherId};

    use super::*;

    fn push(kind: PushKind, data: Vec<Value>) -> PushInfo {
        PushInfo { kind, data }
    }

    fn goodbye() -> Message {
        let namespace = Namespace::new("users").unwrap();
        Message { publisher: PublisherId::from_bytes([1; 16]), namespace, body: Body::Goodbye { last: 1 } }
    }

    fn message() -> PushInfo {
        let bytes = goodbye().encode().unwrap().to_vec();
        push(PushKind::Message, vec![Value::BulkString(b"bus".to_vec()), Value::BulkString(bytes)])
    }

    fn read(queue: &EventQueue) -> Vec<BusEvent> {
        let mut context = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(event)) = queue.poll_pop(&mut context) {
            read.push(event);
        }
        read
    }

    #[test]
    fn a_retired_connection_says_nothing_more() {
        let queue = Arc::new(EventQueue::new(100, 10_000));
        let ear = Ear::new(queue.clone(), Arc::new(super::message));
        ear.on_push(push(PushKind::Subscribe, Vec::new()));
        ear.on_push(message());
        assert!(ear.retire());
        ear.on_push(message());
        ear.on_push(push(PushKind::Subscribe, Vec::new()));
        let said = [BusEvent::Confirmed, BusEvent::Message(goodbye()), BusEvent::Interrupted];
        assert_eq!(read(&queue), said);
    }

    #[test]
    fn a_connection_that_never_stood_is_not_said_to_be_interrupted() {
        let queue = Arc::new(EventQueue::new(100, 10_000));
        assert!(!Ear::new(queue.clone(), Arc::new(super::message)).retire());
        assert!(queue.is_empty());
    }

    #[test]
    fn a_push_that_makes_no_sense_is_a_gap() {
        let queue = Arc::new(EventQueue::new(100, 10_000));
        let ear = Ear::new(queue.clone(), Arc::new(super::message));
        ear.on_push(push(PushKind::Message, Vec::new()));
        ear.on_push(push(PushKind::Message, vec![Value::Nil, Value::Int(1)]));
        ear.on_push(push(PushKind::Invalidate, Vec::new()));
        assert_eq!(read(&queue), vec![BusEvent::Gap(BusGap::Undecodable); 2]);
    }
}
