//! Who is stopped where.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use cachalot::Spawn;
use cachalot_core::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Steps;

tokio::task_local! {
    static ACTOR: Actor;
}

/// One of those whose steps are interleaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Who is interrupted.
    First,
    /// Who acts meanwhile.
    Second,
    /// Who begins after the second and stands while the first goes on.
    Third,
    /// Who takes part but is never stopped.
    Bystander,
}

/// Stops actors at their boundaries and lets them go. Clones are the same script.
///
/// A boundary is passed by whatever task works for an actor; tasks that work for none pass freely and leave
/// no trace.
#[derive(Clone, Debug)]
pub struct Script {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    actors: HashMap<Actor, Progress>,
    trace: Vec<String>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Boundaries reached so far.
    reached: usize,
    stop_at: Option<usize>,
    is_stopped: bool,
    /// Tasks that work for this actor.
    tasks: usize,
}

impl Script {
    /// Nobody is stopped yet.
    pub fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())) }
    }

    /// Runs `work` as `actor`, in a task of its own.
    pub fn spawn<T>(&self, actor: Actor, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T>
    where
        T: Send + 'static,
    {
        let task = self.begin(actor);
        tokio::spawn(ACTOR.scope(actor, async move {
            let result = work.await;
            drop(task);
            result
        }))
    }

    /// Stops `actor` at its boundary number `boundary`, counted from 0.
    pub fn stop(&self, actor: Actor, boundary: usize) {
        self.change(actor, |progress| progress.stop_at = Some(boundary));
    }

    /// Lets `actor` go, for good.
    pub fn release(&self, actor: Actor) {
        self.note(format_args!("-- {actor:?} goes on"));
        self.change(actor, |progress| {
            progress.stop_at = None;
            progress.is_stopped = false;
        });
    }

    /// Waits until `actor` stands at the boundary where it is to stop, `true`, or has ended without coming
    /// there, `false`.
    pub async fn stopped(&self, actor: Actor) -> bool {
        self.wait(|state| state.of(actor, |progress| progress.is_stopped || progress.tasks == 0)).await;
        self.state.borrow().of(actor, |progress| progress.is_stopped)
    }

    /// Waits until nothing works for `actor` any more.
    pub async fn ended(&self, actor: Actor) {
        self.wait(|state| state.of(actor, |progress| progress.tasks == 0)).await;
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl Display) {
        self.state.send_if_modified(|state| {
            state.trace.push(line.to_string());
            false
        });
    }

    /// What happened so far, a line each.
    pub fn trace(&self) -> String {
        self.state.borrow().trace.join("\n")
    }

    fn begin(&self, actor: Actor) -> Task {
        self.change(actor, |progress| progress.tasks += 1);
        Task { script: self.clone(), actor }
    }

    fn change<R>(&self, actor: Actor, change: impl FnOnce(&mut Progress) -> R) -> R {
        let mut result = None;
        self.state.send_modify(|state| result = Some(change(state.actors.entry(actor).or_default())));
        result.expect("`send_modify` calls what it is given")
    }

    async fn wait(&self, until: impl Fn(&State) -> bool) {
        let mut changes = self.state.subscribe();
        // Fails only when the script is gone, and `self` is here.
        let _ = changes.wait_for(|state| until(state)).await;
    }
}

#[async_trait]
impl Steps for Script {
    /// A point where the current actor may be stopped.
    async fn boundary(&self, label: &'static str) {
        let Ok(actor) = ACTOR.try_with(|actor| *actor) else { return };
        self.note(format_args!("{actor:?}: {label}"));
        let is_stopped = self.change(actor, |progress| {
            let is_here = progress.stop_at == Some(progress.reached);
            progress.reached += 1;
            progress.is_stopped |= is_here;
            is_here
        });
        if is_stopped {
            self.note(format_args!("-- {actor:?} stops"));
            self.wait(|state| !state.of(actor, |progress| progress.is_stopped)).await;
        }
    }

    fn note(&self, line: fmt::Arguments<'_>) {
        Script::note(self, line);
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn of<R>(&self, actor: Actor, read: impl FnOnce(&Progress) -> R) -> R {
        read(self.actors.get(&actor).unwrap_or(&Progress::default()))
    }
}

/// Counts a task of an actor until it is dropped.
struct Task {
    script: Script,
    actor: Actor,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.script.change(self.actor, |progress| progress.tasks -= 1);
    }
}

/// Spawns what a cache does in the background as work of the actor that caused it.
#[derive(Clone, Debug)]
pub struct ActorSpawn(pub Script);

impl Spawn for ActorSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        match ACTOR.try_with(|actor| *actor) {
            Ok(actor) => drop(self.0.spawn(actor, task)),
            Err(_) => drop(tokio::spawn(task)),
        }
    }
}
