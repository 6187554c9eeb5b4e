//! A shard in use: its backend, what is known of its health, and the bytes it has a key under.

use std::borrow::Cow;
use std::boxed::Box;
use std::fmt;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use cachalot_core::{Backend, Clock, Entropy, Error, ErrorKind, Key, KeyPattern, Result, Spawn, Timestamp};

use super::Health;
use super::health::{Condition, Turn};

/// What a sharded tier takes from outside, and what its nodes share.
pub(super) struct Effects {
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    pub(super) spawn: Arc<dyn Spawn>,
    pub(super) health: Health,
    /// Ejections and returns.
    pub(super) turns: AtomicU64,
    /// Grows with each step of a move.
    pub(super) steps: AtomicU64,
    /// The least time that a caller waits, in nanoseconds.
    pub(super) limit: AtomicU64,
}

impl Effects {
    /// From when on a call counts that was given up. A limit is met a little early: it was counted from before.
    fn patience(&self) -> Duration {
        self.health.patience.min(self.limit() / 4 * 3)
    }

    /// The least time that a caller waits.
    fn limit(&self) -> Duration {
        match self.limit.load(Ordering::Relaxed) {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        }
    }
}

pub(super) struct Node<B> {
    pub(super) name: String,
    pub(super) era: u64,
    pub(super) backend: B,
    /// What comes before each key.
    prefix: Vec<u8>,
    is_out: AtomicBool,
    /// Whether an answer changes what is known.
    is_failing: AtomicBool,
    condition: Mutex<Condition>,
    effects: Arc<Effects>,
}

impl<B: Backend> Node<B> {
    pub(super) fn new(name: String, era: u64, backend: B, effects: Arc<Effects>) -> Self {
        let limit = effects.limit();
        if limit < Duration::MAX {
            backend.bound(limit);
        }
        let prefix = if era == 0 { Vec::new() } else { std::format!("~{era}~").into_bytes() };
        let condition = Mutex::new(Condition::new(effects.clock.now()));
        let (is_out, is_failing) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { name, era, backend, prefix, is_out, is_failing, condition, effects }
    }

    /// The key that it has `key` under. No namespace is empty, so none meets another.
    pub(super) fn key<'a>(&self, key: &'a Key) -> Cow<'a, Key> {
        match self.prefix.is_empty() {
            true => Cow::Borrowed(key),
            false => Cow::Owned(Key::new([&self.prefix, key.as_bytes()].concat())),
        }
    }

    pub(super) fn keys(&self, keys: Vec<Key>) -> Vec<Key> {
        match self.prefix.is_empty() {
            true => keys,
            false => keys.iter().map(|key| self.key(key).into_owned()).collect(),
        }
    }

    pub(super) fn pattern<'a>(&self, pattern: &'a KeyPattern) -> Cow<'a, KeyPattern> {
        match self.prefix.is_empty() {
            true => Cow::Borrowed(pattern),
            false => Cow::Owned(pattern.behind(&self.prefix)),
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.is_out.load(Ordering::Acquire)
    }

    pub(super) fn failures(&self) -> u32 {
        self.condition().failures()
    }

    /// Whether it is to be asked. One that is out is probed by the way, if that is due.
    pub(super) fn is_live(self: &Arc<Self>) -> bool {
        if !self.is_ejected() {
            return true;
        }
        let probe = self.condition().take_probe(&self.effects.health, self.effects.clock.now());
        if let Some(number) = probe {
            self.probe(number);
        }
        false
    }

    /// Asks it something, unless it is out, and takes note of how it answers.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !self.is_live() {
            return Err(self.away(operation));
        }
        let mut watch = Watch::new(self);
        let answer = call.await;
        watch.ends(answer.as_ref().map_or_else(sign_of, |_| Sign::Good));
        answer
    }

    /// The same of `count` keys.
    pub(super) async fn ask_many<T>(
        self: &Arc<Self>,
        operation: &'static str,
        count: usize,
        call: impl Future<Output = Vec<Result<T>>>,
    ) -> Vec<Result<T>> {
        if !self.is_live() {
            return (0..count).map(|_| Err(self.away(operation))).collect();
        }
        let mut watch = Watch::new(self);
        let answers = call.await;
        let signs = answers.iter().map(|answer| answer.as_ref().map_or_else(sign_of, |_| Sign::Good));
        watch.ends(signs.max().unwrap_or(Sign::None));
        answers
    }

    /// What a call gets that is not made.
    pub(super) fn away(&self, operation: &'static str) -> Error {
        let error = Error::new(ErrorKind::Unavailable, std::format!("sharded {operation}"));
        error.detail("its node is ejected").node(self.name.to_string())
    }

    fn note(&self, sign: Sign) {
        match sign {
            Sign::Good if self.is_failing.load(Ordering::Relaxed) => {
                self.is_failing.store(false, Ordering::Relaxed);
                self.condition().answered();
            }
            Sign::Good | Sign::None => {}
            Sign::Bad => {
                let (now, lot) = (self.effects.clock.now(), self.effects.entropy.draw_unit());
                let mut condition = self.condition();
                self.is_failing.store(true, Ordering::Relaxed);
                let turn = condition.failed(&self.effects.health, now, lot);
                self.turn(turn);
            }
        }
    }

    /// Under the lock of the condition.
    fn turn(&self, turn: Turn) {
        let is_out = match turn {
            Turn::Nothing => return,
            Turn::Ejected => true,
            Turn::TakenBack => false,
        };
        // Before anybody asks the node, or the one in its place; and again for who begins between the two.
        self.effects.turns.fetch_add(1, Ordering::SeqCst);
        self.is_out.store(is_out, Ordering::SeqCst);
        self.effects.turns.fetch_add(1, Ordering::SeqCst);
    }

    /// A read of a key that nobody has.
    fn probe(self: &Arc<Self>, number: u64) {
        // Made here: a task that is dropped before it begins is a bad probe too.
        let probe = Probe { node: self.clone(), number, is_good: false };
        self.effects.spawn.spawn(Box::pin(probe.run()));
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call says of its node. Of many answers the best one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    /// Nothing was sent.
    None,
    Bad,
    Good,
}

fn sign_of(error: &Error) -> Sign {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout => Sign::Bad,
        ErrorKind::Config | ErrorKind::Unsupported | ErrorKind::Encode => Sign::None,
        _ => Sign::Good,
    }
}

/// A call under way. One that is dropped before its end has been given up by who made it, most likely because it took
/// too long.
struct Watch<'a, B: Backend> {
    node: &'a Node<B>,
    began: Timestamp,
    has_ended: bool,
}

impl<'a, B: Backend> Watch<'a, B> {
    fn new(node: &'a Node<B>) -> Self {
        Self { node, began: node.effects.clock.now(), has_ended: false }
    }

    fn ends(&mut self, sign: Sign) {
        self.has_ended = true;
        self.node.note(sign);
    }
}

impl<B: Backend> Drop for Watch<'_, B> {
    fn drop(&mut self) {
        let effects = &self.node.effects;
        if !self.has_ended && effects.clock.now().since(self.began) >= effects.patience() {
            self.node.note(Sign::Bad);
        }
    }
}

/// A probe under way. One that never ends was a bad one.
struct Probe<B: Backend> {
    node: Arc<Node<B>>,
    number: u64,
    is_good: bool,
}

impl<B: Backend> Probe<B> {
    async fn run(mut self) {
        let answer = self.node.backend.get(&Key::new(&b"~probe"[..])).await;
        self.is_good = answer.map_or_else(|error| sign_of(&error), |_| Sign::Good) != Sign::Bad;
    }
}

impl<B: Backend> Drop for Probe<B> {
    fn drop(&mut self) {
        let effects = &self.node.effects;
        let (now, lot) = (effects.clock.now(), effects.entropy.draw_unit());
        let mut condition = self.node.condition();
        let turn = condition.probed(self.number, self.is_good, &effects.health, now, lot);
        self.node.turn(turn);
    }
}

impl<B> fmt::Debug for Node<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_out = self.is_out.load(Ordering::Relaxed);
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("era", &self.era)
            .field("is_out", &is_out)
            .finish_non_exhaustive()
    }
}
