//! Flights against a model of them that is too simple to be wrong, over random steps.
#![cfg(not(cachalot_loom))]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot_core::{Entropy, Timestamp};
use cachalot_stampede::{Flights, Joined, Landing, Lead, Reentrant};

type Seen = Result<Landing<usize>, Reentrant>;

const AGE: Duration = Duration::from_millis(10);
const SEEDS: u64 = 2_000;
const STEPS: usize = 200;

/// A flight as the model sees it. It lands its own number.
#[derive(Default)]
struct Flight {
    opened: u64,
    void: bool,
    landed: Option<Landing<usize>>,
    /// Those it has overtaken, which land with it.
    hanging: Vec<usize>,
}

struct Caller {
    flight: usize,
    wait: Pin<Box<dyn Future<Output = Seen>>>,
}

/// The table and its model, driven side by side over one key.
struct Pair {
    table: Flights<&'static str, usize>,
    leads: Vec<Option<Lead<&'static str, usize>>>,
    callers: Vec<Caller>,
    flights: Vec<Flight>,
    current: Option<usize>,
    now: u64,
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

impl Pair {
    fn new() -> Self {
        Self {
            table: Flights::new(),
            leads: Vec::new(),
            callers: Vec::new(),
            flights: Vec::new(),
            current: None,
            now: 0,
        }
    }

    fn join(&mut self) {
        let young = self.current.filter(|at| self.now - self.flights[*at].opened <= AGE.as_millis() as u64);
        match (self.table.join_at(&"k", Timestamp::from_millis(self.now), AGE), young) {
            (Joined::Follow(follow), Some(flight)) => {
                self.callers.push(Caller { flight, wait: Box::pin(follow.wait()) });
            }
            (Joined::Lead(lead, follow), None) => {
                let flight = self.flights.len();
                self.callers.push(Caller { flight, wait: Box::pin(follow.wait()) });
                self.leads.push(Some(lead));
                let hanging = self.current.map_or(Vec::new(), |old| self.overtake(old));
                let opened = self.now;
                self.flights.push(Flight { opened, hanging, ..Flight::default() });
                self.current = Some(flight);
            }
            (Joined::Follow(_), None) => panic!("joined what is gone or too old"),
            (Joined::Lead(..), Some(flight)) => panic!("did not join flight {flight}"),
        }
    }

    fn overtake(&mut self, old: usize) -> Vec<usize> {
        self.flights[old].void = true;
        let mut hanging = std::mem::take(&mut self.flights[old].hanging);
        hanging.push(old);
        hanging
    }

    fn void(&mut self) {
        let voided = match self.flights.len() % 2 {
            0 => self.table.void("k"),
            _ => self.table.void_if(|key| *key == "k") == 1,
        };
        assert_eq!(voided, self.current.is_some());
        if let Some(flight) = self.current.take() {
            self.flights[flight].void = true;
        }
    }

    fn end(&mut self, flight: usize, landing: Landing<usize>) {
        let Some(lead) = self.leads[flight].take() else { return };
        match landing {
            Landing::Abandoned => drop(lead),
            _ => lead.land(flight),
        }
        let hanging = std::mem::take(&mut self.flights[flight].hanging);
        if matches!(landing, Landing::Final(_)) {
            for other in hanging {
                self.flights[other].landed.get_or_insert(landing.clone());
            }
        }
        self.flights[flight].landed.get_or_insert(landing);
        self.current = self.current.filter(|current| *current != flight);
    }

    fn ask_whether_deserted(&mut self, flight: usize) {
        let Some(lead) = &self.leads[flight] else { return };
        let left = self.callers.iter().all(|caller| caller.flight != flight);
        let deserted = left || self.flights[flight].landed.is_some();
        assert_eq!(lead.is_deserted(), deserted);
        assert_eq!(poll(pin!(lead.deserted())).is_ready(), deserted);
        if deserted {
            self.flights[flight].void = true;
            self.current = self.current.filter(|current| *current != flight);
        }
    }

    fn look(&mut self, at: usize) {
        let caller = &mut self.callers[at];
        match (poll(caller.wait.as_mut()), &self.flights[caller.flight].landed) {
            (Poll::Pending, None) => {}
            (Poll::Ready(seen), Some(landed)) => {
                assert_eq!(seen.as_ref(), Ok(landed));
                // Nobody gets what was begun before the flight it joined.
                assert!(!matches!(seen, Ok(Landing::Final(from)) if from < caller.flight));
                drop(self.callers.swap_remove(at));
            }
            (got, expected) => panic!("a caller sees {got:?}, not {expected:?}"),
        }
    }

    fn check(&self) {
        assert_eq!(self.table.len(), usize::from(self.current.is_some()));
        for (lead, flight) in self.leads.iter().zip(&self.flights) {
            assert!(lead.as_ref().is_none_or(|lead| lead.is_void() == flight.void));
        }
        let waiting = self.callers.iter().filter(|caller| Some(caller.flight) == self.current).count();
        assert_eq!(self.table.waiting("k"), waiting);
    }
}

/// A number below `bound`.
fn below(entropy: &Entropy, bound: usize) -> usize {
    (entropy.draw_u64() % bound.max(1) as u64) as usize
}

fn run(seed: u64) {
    let (entropy, mut pair) = (Entropy::seeded(seed), Pair::new());
    for _ in 0..STEPS {
        pair.now += below(&entropy, 5) as u64;
        let (flight, caller) = (below(&entropy, pair.leads.len()), below(&entropy, pair.callers.len()));
        match below(&entropy, 16) {
            0..5 => pair.join(),
            5 => pair.void(),
            6..8 if flight < pair.leads.len() => pair.end(flight, Landing::Final(flight)),
            8 if flight < pair.leads.len() => pair.end(flight, Landing::Abandoned),
            9..11 if flight < pair.leads.len() => pair.ask_whether_deserted(flight),
            11..13 if caller < pair.callers.len() => drop(pair.callers.swap_remove(caller)),
            13.. if caller < pair.callers.len() => pair.look(caller),
            _ => {}
        }
        pair.check();
    }
    for flight in 0..pair.leads.len() {
        pair.end(flight, Landing::Final(flight));
    }
    assert!(pair.table.is_empty());
    while !pair.callers.is_empty() {
        pair.look(0);
    }
}

#[test]
fn flights_do_what_their_model_does() {
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| run(seed));
        assert!(run.is_ok(), "seed {seed} of flights_do_what_their_model_does");
    }
}
