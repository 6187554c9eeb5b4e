//! The task of one load.

use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use cachalot_core::{BoxFuture, LoadError, LoaderError};

use super::builder::{OnDeserted, Settings};
use super::{Inner, Outcome, panicked, timeout};
use crate::{Failure, Failures, Lead, guard, loading};

type Loader<V> = BoxFuture<'static, Result<V, LoaderError>>;

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) async fn load(self: Arc<Self>, lead: Lead<K, Outcome<V>>, load: Loader<V>) {
        // Nobody is left to be told of a load that was given up.
        if let Some(outcome) = self.run(&lead, load).await {
            self.settle(lead, outcome);
        }
    }

    /// Runs the loader, at most for the flight's age; sends its callers away after the hard timeout. `None`: all
    /// have left, and so the load was dropped.
    async fn run(&self, lead: &Lead<K, Outcome<V>>, load: Loader<V>) -> Option<Outcome<V>> {
        let settings = &self.settings;
        let mut run = pin!(loading(lead.id(), guard(load, settings.max_flight_age)));
        let give_up = settings.on_deserted == OnDeserted::Cancel;
        let mut deserted = give_up.then(|| Box::pin(lead.deserted()));
        let mut overdue = (settings.hard_timeout < settings.max_flight_age)
            .then(|| Box::pin(tokio::time::sleep(settings.hard_timeout)));
        poll_fn(|cx| {
            if let Poll::Ready(ran) = run.as_mut().poll(cx) {
                return Poll::Ready(Some(self.outcome(ran)));
            }
            if overdue.as_mut().is_some_and(|overdue| overdue.as_mut().poll(cx).is_ready()) {
                overdue = None;
                lead.offer(Err(timeout(settings.hard_timeout).into()));
            }
            if deserted.as_mut().is_some_and(|deserted| deserted.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }

    fn outcome(&self, ran: Result<Result<V, LoaderError>, Failure>) -> Outcome<V> {
        match ran {
            Ok(loaded) => loaded.map_err(LoadError::Loader),
            Err(Failure::Timeout) => Err(timeout(self.settings.max_flight_age).into()),
            Err(failure) => Err(panicked(failure).into()),
        }
    }

    /// Notes how the load ended, then lands it: who comes after the landing finds the note.
    pub(super) fn settle(&self, lead: Lead<K, Outcome<V>>, outcome: Outcome<V>) {
        let outcome = match &self.failures {
            Some(failures) => self.note(failures, &lead, outcome),
            None => outcome,
        };
        lead.land(outcome);
    }

    fn note(
        &self,
        failures: &Failures<K, LoadError>,
        lead: &Lead<K, Outcome<V>>,
        outcome: Outcome<V>,
    ) -> Outcome<V> {
        match outcome {
            Ok(value) => {
                if !lead.is_void() {
                    failures.forget(lead.key());
                }
                Ok(value)
            }
            Err(error) => {
                let Settings { clock, entropy, .. } = &self.settings;
                let retry_at = failures.record_load(lead, error.clone(), clock.now(), entropy);
                match retry_at {
                    Some(at) => Err(error.with_retry_at(at)),
                    None => Err(error),
                }
            }
        }
    }
}
