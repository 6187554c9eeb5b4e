//! A backend that fails on purpose.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, BoxFuture, Depth, Entropy, Error, ErrorKind, Expired, Held, Key, KeyPattern,
    LeaseBackend, LeaseReply, MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, SweepCursor,
    Swept, TagBackend, TagToken, Token, VersionBackend,
};

mod call;
use call::Call;
pub use call::Operation;
mod members;
#[cfg(test)]
mod tests;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: it passes.
    None,
    /// It is not done, and the answer is [`ErrorKind::Unavailable`].
    Refuse,
    /// It is done after this much of tokio's time. Who leaves meanwhile prevents it.
    Delay(Duration),
    /// It is done, and the answer comes after this much of tokio's time.
    AnswerLate(Duration),
    /// It is done, and the answer is [`ErrorKind::Timeout`].
    LoseAnswer,
    /// The answer is [`ErrorKind::Timeout`], and it is done when [`Faulty::land`] is called: a command that
    /// was still under way.
    LandLate,
    /// Of the keys of `get_many` and `remove_many` some fail, at least one and, of several, not all, as drawn
    /// by lot: half of them are not done, the answer of the others is lost. Other calls pass.
    Partly,
}

/// How likely each [`Fault`] is, each from 0 to 1 and all of them 1 at most. All zero by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Odds {
    /// Of [`Fault::Refuse`].
    pub refuse: f64,
    /// Of [`Fault::LoseAnswer`].
    pub lose_answer: f64,
    /// Of [`Fault::LandLate`].
    pub land_late: f64,
    /// Of [`Fault::Partly`].
    pub partly: f64,
    /// Of [`Fault::Delay`].
    pub delay: f64,
    /// Delays last from nothing to this, evenly.
    pub longest_delay: Duration,
}

/// A [`Backend`] around another that passes every call on until told otherwise. Clones are the same one, so
/// a test keeps a clone and gives another away.
///
/// ```
/// # cachalot_testkit::block_on(async {
/// use cachalot_core::{Backend, ErrorKind, Key, ManualClock, Removed};
/// use cachalot_testkit::{Fault, Faulty, ModelBackend, Operation};
///
/// let backend = Faulty::new(ModelBackend::new(ManualClock::new().clock()));
/// backend.next_of(Operation::Remove, Fault::LandLate);
/// let error = backend.remove(&Key::new("k")).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Timeout); // what was asked may still happen,
/// assert_eq!(backend.land().await, 1); // and here it does
/// assert_eq!(backend.remove(&Key::new("k")).await.unwrap(), Removed::Nothing);
/// # });
/// ```
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Backend>,
    state: Arc<Mutex<State>>,
}

struct State {
    is_down: bool,
    odds: Odds,
    entropy: Entropy,
    script: VecDeque<Fault>,
    scripts: HashMap<Operation, VecDeque<Fault>>,
    calls: HashMap<Operation, usize>,
    late: VecDeque<Call>,
}

impl Faulty {
    /// Wraps `inner` and does nothing yet.
    pub fn new(inner: impl Backend) -> Self {
        let state = State {
            is_down: false,
            odds: Odds::default(),
            entropy: Entropy::seeded(0),
            script: VecDeque::new(),
            scripts: HashMap::new(),
            calls: HashMap::new(),
            late: VecDeque::new(),
        };
        Self { inner: Arc::new(inner), state: Arc::new(Mutex::new(state)) }
    }

    /// Gives the next call this fault; several calls of this add up.
    pub fn next(&self, fault: Fault) {
        self.lock().script.push_back(fault);
    }

    /// Gives the next call of `operation` this fault; goes before [`next`](Self::next).
    pub fn next_of(&self, operation: Operation, fault: Fault) {
        self.lock().scripts.entry(operation).or_default().push_back(fault);
    }

    /// Gives every call without a fault of its own one by lot. The same seed gives the same faults to the
    /// same calls.
    pub fn at_random(&self, odds: Odds, seed: u64) {
        let mut state = self.lock();
        state.odds = odds;
        state.entropy = Entropy::seeded(seed);
    }

    /// Refuses every call until [`up`](Self::up).
    pub fn down(&self) {
        self.lock().is_down = true;
    }

    /// Ends [`down`](Self::down).
    pub fn up(&self) {
        self.lock().is_down = false;
    }

    /// Ends all faults. What is to land late still does.
    pub fn calm(&self) {
        let mut state = self.lock();
        state.is_down = false;
        state.odds = Odds::default();
        state.script.clear();
        state.scripts.clear();
    }

    /// How many calls have come, whatever became of them; one of many keys counts once.
    pub fn calls(&self) -> usize {
        self.lock().calls.values().sum()
    }

    /// How many calls of `operation` have come.
    pub fn calls_of(&self, operation: Operation) -> usize {
        self.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// How many calls are still to land.
    pub fn late(&self) -> usize {
        self.lock().late.len()
    }

    /// Does all that is still to land, oldest first. How many they were.
    pub async fn land(&self) -> usize {
        let mut landed = 0;
        while self.land_one().await {
            landed += 1;
        }
        landed
    }

    /// Does the oldest call that is still to land. Whether there was one.
    pub async fn land_one(&self) -> bool {
        let Some(call) = self.lock().late.pop_front() else {
            return false;
        };
        call.run(&*self.inner).await;
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call, with what is due to it.
    async fn pass<T>(&self, call: Call, run: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.lock().due(call.operation());
        match fault {
            Fault::None | Fault::Partly => {}
            Fault::Refuse => return Err(refused(&call)),
            Fault::Delay(time) => return delayed(time, run).await,
            Fault::AnswerLate(time) => return answered_late(time, run).await,
            Fault::LandLate => return Err(self.postpone(call)),
            Fault::LoseAnswer => {
                // Whatever it was, nobody hears of it.
                let _ = run.await;
                return Err(unanswered(&call));
            }
        }
        run.await
    }

    /// One call of many keys, with what is due to it.
    async fn pass_many<T>(&self, call: Call, run: Many<T>) -> Vec<Result<T>> {
        let fault = self.lock().due(call.operation());
        let all = |error: Error| call.keys().iter().map(|_| Err(error.clone())).collect();
        match fault {
            Fault::None => run(&*self.inner, call.keys()).await,
            Fault::Refuse => all(refused(&call)),
            Fault::Delay(time) => delayed(time, run(&*self.inner, call.keys())).await,
            Fault::AnswerLate(time) => answered_late(time, run(&*self.inner, call.keys())).await,
            Fault::LandLate => all(self.postpone(call.clone())),
            Fault::LoseAnswer => {
                run(&*self.inner, call.keys()).await;
                all(unanswered(&call))
            }
            Fault::Partly => self.pass_partly(&call, run).await,
        }
    }

    async fn pass_partly<T>(&self, call: &Call, run: Many<T>) -> Vec<Result<T>> {
        let lots = self.lock().draw_lots(call.keys().len());
        let done: Vec<Key> = call
            .keys()
            .iter()
            .zip(&lots)
            .filter(|(_, lot)| **lot != Lot::Refused)
            .map(|(key, _)| key.clone())
            .collect();
        let mut answers = run(&*self.inner, &done).await.into_iter();
        let answer = |lot: &Lot| match lot {
            Lot::Refused => Err(refused(call)),
            // An inner backend that answers too few is not hidden.
            Lot::Done => answers.next().unwrap_or_else(|| Err(unanswered(call))),
            Lot::Unanswered => {
                answers.next();
                Err(unanswered(call))
            }
        };
        lots.iter().map(answer).collect()
    }

    fn postpone(&self, call: Call) -> Error {
        let error = unanswered(&call);
        self.lock().late.push_back(call);
        error
    }
}

/// An operation of many keys.
type Many<T> = for<'a> fn(&'a dyn Backend, &'a [Key]) -> BoxFuture<'a, Vec<Result<T>>>;

/// What becomes of one key among many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lot {
    Done,
    Unanswered,
    Refused,
}

impl State {
    /// Counts a call, and says what is due to it.
    fn due(&mut self, operation: Operation) -> Fault {
        *self.calls.entry(operation).or_default() += 1;
        if self.is_down {
            return Fault::Refuse;
        }
        let own = self.scripts.get_mut(&operation).and_then(VecDeque::pop_front);
        let scripted = own.or_else(|| self.script.pop_front());
        scripted.unwrap_or_else(|| self.odds.draw(&self.entropy))
    }

    /// At least one key fails and, of several, one does not.
    fn draw_lots(&self, count: usize) -> Vec<Lot> {
        let lot = |_| match self.entropy.draw_u64() % 4 {
            0 => Lot::Unanswered,
            1 => Lot::Refused,
            _ => Lot::Done,
        };
        let mut lots: Vec<Lot> = (0..count).map(lot).collect();
        if lots.iter().all(|lot| *lot == Lot::Done) {
            lots.iter_mut().take(1).for_each(|lot| *lot = Lot::Refused);
        }
        if lots.iter().all(|lot| *lot != Lot::Done) {
            lots.iter_mut().skip(1).take(1).for_each(|lot| *lot = Lot::Done);
        }
        lots
    }
}

impl Odds {
    fn draw(&self, entropy: &Entropy) -> Fault {
        if *self == Self::default() {
            return Fault::None;
        }
        let (mut drawn, length) = (entropy.draw_unit(), entropy.draw_unit());
        let faults = [
            (self.refuse, Fault::Refuse),
            (self.lose_answer, Fault::LoseAnswer),
            (self.land_late, Fault::LandLate),
            (self.partly, Fault::Partly),
            (self.delay, Fault::Delay(self.longest_delay.mul_f64(length))),
        ];
        for (odds, fault) in faults {
            if drawn <= odds {
                return fault;
            }
            drawn -= odds;
        }
        Fault::None
    }
}

async fn delayed<T>(time: Duration, run: impl Future<Output = T>) -> T {
    tokio::time::sleep(time).await;
    run.await
}

async fn answered_late<T>(time: Duration, run: impl Future<Output = T>) -> T {
    let answer = run.await;
    tokio::time::sleep(time).await;
    answer
}

fn refused(call: &Call) -> Error {
    error(call, ErrorKind::Unavailable).detail("refused on purpose")
}

fn unanswered(call: &Call) -> Error {
    error(call, ErrorKind::Timeout).detail("left without an answer on purpose")
}

fn error(call: &Call, kind: ErrorKind) -> Error {
    let error = Error::new(kind, format!("faulty {}", call.operation()));
    match call.keys() {
        [key] => error.key(key.as_bytes()),
        _ => error,
    }
}

#[async_trait]
impl Backend for Faulty {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.pass(Call::Get(key.clone()), self.inner.get(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let call = Call::GetMany(keys.to_vec());
        self.pass_many(call, |inner, keys| inner.get_many(keys)).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.pass(Call::Remove(key.clone()), self.inner.remove(key)).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let call = Call::RemoveMany(keys.to_vec());
        self.pass_many(call, |inner, keys| inner.remove_many(keys)).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let call = Call::Sweep(pattern.clone(), from.clone());
        self.pass(call, self.inner.sweep(pattern, from)).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.pass(Call::Expire(key.clone(), keep), self.inner.expire(key, keep)).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        let call = Call::Touch(key.clone(), nonce, ttl);
        self.pass(call, self.inner.touch(key, nonce, ttl)).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        self.inner.leases().map(|_| self as &dyn LeaseBackend)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        self.inner.tags().map(|_| self as &dyn TagBackend)
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.inner.members().map(|_| self as &dyn MemberBackend)
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        self.inner.versions().map(|_| self as &dyn VersionBackend)
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }

    fn turns(&self) -> u64 {
        self.inner.turns()
    }

    fn bound(&self, limit: Duration) {
        self.inner.bound(limit);
    }
}

impl Faulty {
    /// Only asked for by who got them from [`Backend::leases`].
    fn inner_leases(&self) -> Result<&dyn LeaseBackend> {
        let missing = || Error::new(ErrorKind::Unsupported, "faulty leases");
        self.inner.leases().ok_or_else(missing)
    }

    /// Only asked for by who got them from [`Backend::tags`].
    fn inner_tags(&self) -> Result<&dyn TagBackend> {
        let missing = || Error::new(ErrorKind::Unsupported, "faulty tags");
        self.inner.tags().ok_or_else(missing)
    }
}

#[async_trait]
impl TagBackend for Faulty {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        let call = Call::TagTokens(names.to_vec());
        self.pass(call, self.inner_tags()?.tag_tokens(names)).await
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let call = Call::PinTags(names.to_vec(), fresh.to_vec(), ttl);
        self.pass(call, self.inner_tags()?.pin_tags(names, fresh, ttl)).await
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let call = Call::RotateTags(names.to_vec(), fresh.to_vec(), depth, ttl);
        self.pass(call, self.inner_tags()?.rotate_tags(names, fresh, depth, ttl)).await
    }
}

#[async_trait]
impl VersionBackend for Faulty {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let missing = || Error::new(ErrorKind::Unsupported, "faulty versions");
        let versions = self.inner.versions().ok_or_else(missing)?;
        self.pass(Call::Raise(name.clone(), version, ttl), versions.raise(name, version, ttl)).await
    }
}

#[async_trait]
impl LeaseBackend for Faulty {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let call = Call::GetOrLease(key.clone(), token, term, refuse);
        self.pass(call, self.inner_leases()?.get_or_lease(key, token, term, refuse)).await
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let call = Call::PutLeased(key.clone(), token, put.clone());
        self.pass(call, self.inner_leases()?.put_leased(key, token, put)).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        let call = Call::Release(key.clone(), token);
        self.pass(call, self.inner_leases()?.release(key, token)).await
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        let call = Call::Hold(key.clone(), token, term);
        self.pass(call, self.inner_leases()?.hold(key, token, term)).await
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let call = Call::PutHeld(key.clone(), token, put.clone());
        self.pass(call, self.inner_leases()?.put_held(key, token, put)).await
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Faulty")
            .field("inner", &self.inner)
            .field("is_down", &state.is_down)
            .field("late", &state.late.len())
            .finish_non_exhaustive()
    }
}
