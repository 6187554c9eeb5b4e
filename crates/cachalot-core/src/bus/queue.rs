//! What a subscriber has not read yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Body, BusEvent, BusGap, Message, Subject};

/// The queue between a bus and one subscriber, for those who write a [`Bus`](super::Bus): bounded in events
/// and in bytes. What does not fit makes room by dropping all messages, and says so by a
/// [`BusEvent::Gap`]: a subscriber that is so late gains nothing by reading them one by one.
///
/// One subscriber reads; any number of threads write.
#[derive(Debug)]
pub struct EventQueue {
    max_events: usize,
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<BusEvent>,
    bytes: usize,
    is_closed: bool,
    reader: Option<Waker>,
}

impl EventQueue {
    /// An empty queue for so many events, at least two, whose messages take so many bytes.
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { max_events: max_events.max(2), max_bytes, state: Mutex::default() }
    }

    /// Adds `event` and wakes the reader. A message that does not fit is dropped together with all that wait,
    /// for one [`BusGap::Overflow`].
    pub fn push(&self, event: BusEvent) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let size = size(&event);
        if state.events.len() >= self.max_events || state.bytes + size > self.max_bytes {
            state.drop_messages(event);
        } else {
            state.bytes += size;
            state.events.push_back(event);
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes the oldest event, or registers for the next one. `None`: closed, and all is read.
    pub fn poll_pop(&self, context: &mut Context<'_>) -> Poll<Option<BusEvent>> {
        let mut state = self.lock();
        if let Some(event) = state.events.pop_front() {
            state.bytes -= size(&event);
            return Poll::Ready(Some(event));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes no more events. What waits can still be read.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops all messages and keeps what else was said, shortened to what it comes to.
    fn drop_messages(&mut self, last: BusEvent) {
        let said: Vec<BusEvent> = self.events.drain(..).chain([last]).collect();
        self.bytes = 0;
        if said.contains(&BusEvent::Confirmed) {
            self.events.push_back(BusEvent::Confirmed);
        }
        let state = said.into_iter().rev().find(is_about_the_connection);
        self.events.extend(state.filter(|state| *state != BusEvent::Confirmed));
        self.events.push_back(BusEvent::Gap(BusGap::Overflow));
    }
}

fn is_about_the_connection(event: &BusEvent) -> bool {
    matches!(event, BusEvent::Confirmed | BusEvent::Interrupted | BusEvent::Resumed)
}

/// About how much memory an event holds, bytes.
fn size(event: &BusEvent) -> usize {
    match event {
        BusEvent::Message(message) => message_size(message),
        BusEvent::Foreign(subjects) => size_of(subjects),
        _ => 0,
    }
}

const EACH: usize = 64;

fn size_of(subjects: &[Subject]) -> usize {
    subjects.iter().map(|one| EACH + one.name().len()).sum()
}

fn message_size(message: &Message) -> usize {
    match &message.body {
        Body::Invalidations { subjects, .. } => size_of(subjects),
        Body::LeasesEnded { keys } => keys.iter().map(|key| EACH + key.as_bytes().len()).sum(),
        _ => EACH,
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::{Key, Namespace, PublisherId};

    fn message(sequence: u64, name: usize) -> BusEvent {
        let subjects = vec![Subject::Key { key: Key::new(vec![b'k'; name]), pending: false }];
        BusEvent::Message(Message {
            publisher: PublisherId::from_bytes([1; 16]),
            namespace: Namespace::new("users").unwrap(),
            body: Body::Invalidations { sequence, confirm: false, subjects },
        })
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
    fn what_fits_comes_in_order() {
        let queue = EventQueue::new(3, 10_000);
        let events = [BusEvent::Confirmed, message(1, 5), message(2, 5)];
        events.clone().into_iter().for_each(|event| queue.push(event));
        assert_eq!(read(&queue), events);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_one_gap_and_the_memory_is_bounded() {
        let queue = EventQueue::new(8, 10_000);
        queue.push(BusEvent::Confirmed);
        for sequence in 1..=1_000 {
            queue.push(message(sequence, 5));
            assert!(queue.len() <= 8);
        }
        let read = read(&queue);
        assert_eq!(read[..2], [BusEvent::Confirmed, BusEvent::Gap(BusGap::Overflow)]);
        assert_eq!(read.last(), Some(&message(1_000, 5)), "what came after the last overflow is there");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = EventQueue::new(1_000, 500);
        queue.push(message(1, 300));
        queue.push(message(2, 300));
        assert_eq!(read(&queue), [BusEvent::Gap(BusGap::Overflow)]);
        queue.push(message(3, 1_000));
        assert_eq!(read(&queue), [BusEvent::Gap(BusGap::Overflow)], "one that never fits");
        queue.push(message(4, 300));
        assert_eq!(read(&queue), [message(4, 300)], "the count starts anew");
    }

    #[test]
    fn what_foreigners_say_is_bounded_too() {
        let queue = EventQueue::new(1_000, 500);
        let said = |name: usize| {
            BusEvent::Foreign(vec![Subject::Key { key: Key::new(vec![b'k'; name]), pending: false }])
        };
        queue.push(said(300));
        queue.push(said(300));
        assert_eq!(read(&queue), [BusEvent::Gap(BusGap::Overflow)]);
    }

    #[test]
    fn an_overflow_does_not_hide_what_was_said_of_the_connection() {
        let queue = EventQueue::new(4, 10_000);
        for event in [BusEvent::Confirmed, message(1, 1), message(2, 1), BusEvent::Interrupted, message(3, 1)]
        {
            queue.push(event);
        }
        let left = [BusEvent::Confirmed, BusEvent::Interrupted, BusEvent::Gap(BusGap::Overflow)];
        assert_eq!(read(&queue), left);
    }

    #[test]
    fn a_closed_queue_is_read_to_its_end() {
        let queue = EventQueue::new(4, 10_000);
        queue.push(message(1, 1));
        queue.close();
        queue.push(message(2, 1));
        assert_eq!(read(&queue), [message(1, 1)]);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(queue.poll_pop(&mut context), Poll::Ready(None));
    }
}
