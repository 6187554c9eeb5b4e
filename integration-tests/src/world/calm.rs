//! What is left when the storm is over.

use std::sync::Arc;

use tokio::time::sleep;

use super::life::Act;
use super::plan::{Action, Loading, What};
use super::{CALM, EXTRA, HOUR, KEYS, Process, Report, World, millis};
use crate::L1;

impl<S: L1> World<S> {
    /// The weather clears up: what is late lands, what is deferred is replayed, and what may be kept in
    /// memory of another process's past is over. Then everybody reads once more. Gives back what is left
    /// behind and should not be.
    pub(super) async fn calm(self: &Arc<Self>) -> Option<String> {
        self.note(format_args!("the weather clears up"));
        self.weather.clear_up();
        let count = self.nodes.lock().unwrap().len();
        let nodes: Vec<_> = (0..count).map(|node| self.process(node)).collect();
        sleep(CALM).await;
        nodes.iter().for_each(|process| self.history().settle(process.id, self.now()));
        self.converge(&nodes);
        for key in 0..KEYS {
            for fails in [false, true] {
                self.probe(EXTRA + 2 * key as u64 + u64::from(fails), key, fails).await;
            }
        }
        self.last_reads(&nodes).await;
        if self.air.is_none() {
            sleep(self.elsewhere + millis(1)).await;
            self.last_reads(&nodes).await;
        }
        for process in &nodes {
            let stats = process.cache.stats();
            let closed = process.cache.shutdown(CALM).await;
            if closed.is_err() || stats.flights + stats.pending_invalidations + stats.task_panics > 0 {
                return Some(format!("process {} leaves behind {closed:?}, {stats:?}", process.id));
            }
        }
        None
    }

    /// Nothing has gone wrong for longer than it takes to notice a silence: nobody holds anything old, unless of
    /// somebody who died before he was heard of.
    fn converge(&self, nodes: &[Arc<Process<S>>]) {
        let Some(air) = &self.air else { return };
        for process in nodes {
            self.history().converge(process.id, |other| air.have_met(process.id, other), self.now());
        }
    }

    /// Everybody reads everything once more.
    async fn last_reads(self: &Arc<Self>, nodes: &[Arc<Process<S>>]) {
        let load = What::Load(Loading::calm(HOUR));
        for process in nodes {
            for (key, what) in (0..KEYS).flat_map(|key| [(key, What::Get), (key, load)]) {
                let action = Action::extra(key, what);
                process.life.run(Act::calm(action), self.clone().read(process.clone(), action)).await;
            }
        }
    }

    pub(super) fn report(&self, left: Option<String>) -> Report {
        let history = self.history();
        let broken = history.check().err().map(|broken| broken.to_string()).or(left);
        if let Some(broken) = &broken {
            self.note(format_args!("!! {broken}"));
        }
        Report {
            broken,
            reads: history.reads(),
            promises: history.promises(),
            deferred: *self.deferred.lock().unwrap(),
            turns: self.tiers.lock().unwrap().iter().map(|tier| tier.turns()).sum(),
            trace: self.log.lines(),
        }
    }
}
