//! The bus of a world: messages that get lost, come twice, late or out of order, and listeners that go deaf.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Body, Bus, BusEvent, BusInfo, Entropy, Error, ErrorKind, Event, EventQueue, Message, Observer, Result,
    Subject, Subscription,
};
use cachalot_testkit::history::ProcessId;
use tokio::time::sleep;

use super::Chronicle;
use super::life::Weather;
use super::log::Log;
use super::plan::Sounds;

/// What lies between the processes. Clones are the same air.
#[derive(Clone)]
pub(super) struct Air {
    state: Arc<Mutex<State>>,
    sounds: Sounds,
    weather: Weather,
    pub(super) log: Log,
}

#[derive(Default)]
struct State {
    ears: Vec<Ear>,
    /// Who has heard whom at all.
    met: HashSet<(ProcessId, ProcessId)>,
}

struct Ear {
    of: ProcessId,
    queue: Arc<Queue>,
    is_deaf: bool,
}

type Queue = EventQueue;

/// How much a listener may leave unread.
const MAX_EVENTS: usize = 256;
const MAX_BYTES: usize = 1 << 20;

impl Air {
    pub(super) fn new(sounds: Sounds, weather: Weather, log: Log) -> Self {
        Self { state: Arc::default(), sounds, weather, log }
    }

    /// `process` hears nothing from now on, or again; it is told, and late.
    pub(super) fn deafen(&self, process: ProcessId, is_deaf: bool) {
        for ear in self.lock().ears.iter_mut().filter(|ear| ear.of == process) {
            ear.is_deaf = is_deaf;
            ear.queue.push(if is_deaf { BusEvent::Interrupted } else { BusEvent::Confirmed });
        }
    }

    /// Whether `listener` has ever heard of `speaker`: of whom it has not, it cannot miss anything.
    pub(super) fn have_met(&self, listener: ProcessId, speaker: ProcessId) -> bool {
        self.lock().met.contains(&(listener, speaker))
    }

    fn send(&self, from: ProcessId, lots: &Entropy, message: &Message) {
        let mut state = self.lock();
        // One whose subscription was dropped has no other owner.
        state.ears.retain(|ear| Arc::strong_count(&ear.queue) > 1);
        let listeners: Vec<ProcessId> =
            state.ears.iter().map(|ear| ear.of).filter(|of| *of != from).collect();
        drop(state);
        for to in listeners {
            if self.weather.is_calm() {
                self.deliver(from, to, message);
                continue;
            }
            let draw = |below: u64| lots.draw_u64() % below;
            let is_first = !self.have_met(to, from) && self.sounds.loses_first;
            if draw(100) < self.sounds.loss || is_first && draw(2) == 0 {
                self.log.note(format_args!("a message of {from} to {to} is lost"));
                continue;
            }
            let copies = if draw(100) < self.sounds.twice { 2 } else { 1 };
            for _ in 0..copies {
                let late = if draw(100) < self.sounds.reorder { draw(150) } else { 0 };
                let (air, message, way) = (self.clone(), message.clone(), 1 + draw(4) + late);
                tokio::spawn(async move {
                    sleep(Duration::from_millis(way)).await;
                    air.deliver(from, to, &message);
                });
            }
        }
    }

    fn deliver(&self, from: ProcessId, to: ProcessId, message: &Message) {
        let mut state = self.lock();
        let Some(ear) = state.ears.iter().find(|ear| ear.of == to && !ear.is_deaf) else { return };
        ear.queue.push(BusEvent::Message(message.clone()));
        state.met.insert((to, from));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// The air as one process breathes it.
pub(super) struct Voice {
    pub(super) air: Air,
    pub(super) of: ProcessId,
    pub(super) lots: Entropy,
    pub(super) chronicle: Chronicle,
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Voice({})", self.of)
    }
}

#[async_trait]
impl Bus for Voice {
    fn info(&self) -> BusInfo {
        BusInfo::new("air", "")
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        if !matches!(message.body, Body::Heartbeat { .. }) {
            self.air.log.note(format_args!("process {} says {:?}", self.of, message.body));
        }
        let is_refused = !self.air.weather.is_calm() && self.lots.draw_u64() % 100 < 5;
        if is_refused {
            return Err(Error::new(ErrorKind::Unavailable, "air publish"));
        }
        self.air.send(self.of, &self.lots, message);
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        let queue = Arc::new(EventQueue::new(MAX_EVENTS, MAX_BYTES));
        queue.push(BusEvent::Confirmed);
        self.air.lock().ears.push(Ear { of: self.of, queue: queue.clone(), is_deaf: false });
        Ok(Box::new(Listener { queue, of: self.of, chronicle: self.chronicle.clone(), unapplied: None }))
    }
}

struct Listener {
    queue: Arc<Queue>,
    of: ProcessId,
    chronicle: Chronicle,
    /// Handed out; it is applied when the next one is asked for.
    unapplied: Option<Vec<Subject>>,
}

#[async_trait]
impl Subscription for Listener {
    async fn next(&mut self) -> Result<BusEvent> {
        for subject in self.unapplied.take().into_iter().flatten() {
            self.chronicle.applied(self.of, &subject);
        }
        let event = poll_fn(|context| self.queue.poll_pop(context)).await;
        if let Some(BusEvent::Message(Message { body: Body::Invalidations { subjects, .. }, .. })) = &event {
            self.unapplied = Some(subjects.clone());
        }
        event.ok_or_else(|| Error::new(ErrorKind::Closed, "air"))
    }
}

/// Hears from the cache of `of` when it has noticed a gap.
pub(super) struct Ears {
    pub(super) of: ProcessId,
    pub(super) chronicle: Chronicle,
}

impl Observer for Ears {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Gap = event {
            self.chronicle.gap(self.of);
        }
    }
}
