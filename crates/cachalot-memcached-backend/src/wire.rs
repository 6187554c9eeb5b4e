//! One connection: commands out, replies in, matched by their order.
//!
//! Two tasks serve it. One writes what has gathered since it last looked; one reads replies and hands each to whoever
//! waits for it. A command that finds the connection idle is written by its caller at once. Reads of single keys that
//! meet here share a batch: `mg … q O<n>` each, and one `mn`.
//!
//! Nobody holds up another: who leaves is skipped when its reply comes. Whoever wins a stale item and does not want it,
//! or is gone, hands it back here, so that the next reader can win it. Each command is numbered, and a reply that is not of
//! its number and its kind ends the connection, and with it every right that was granted on it. A put for which the server
//! has no memory fails alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cachalot_core::{Clock, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, yield_now};

use crate::codec::{Command, Meta, Name, Parser, Reply, Verb};
use crate::expect::Expect;
use crate::fault::Fault;
use crate::link::Setup;
use crate::meeting::Meeting;
use crate::stream::Stream;

/// What is there, and its bytes.
pub(crate) type Hit = (Meta, Bytes);

/// A connection that ends before it is so old was made in vain.
const YOUNG: Duration = Duration::from_secs(1);
/// How many reads one batch has at most.
const READS_PER_BATCH: usize = 256;
/// How many commands may wait for replies.
const MOST_WAITING: usize = 1 << 16;
/// How many bytes may wait to be written.
const MOST_UNWRITTEN: usize = 64 << 20;
/// A connection on which nothing was heard for so many deadlines is given up for a new one.
const SILENT_DEADLINES: u32 = 4;
/// How many reads may wait to be gathered before the next connection is used.
const CROWD: usize = 64;

/// A live connection.
pub(crate) struct Wire {
    line: Arc<Line>,
    meeting: Meeting,
    /// How many runs of the server were met before this one.
    run: u64,
}

/// What the two tasks and the callers share.
struct Line {
    stream: Stream,
    state: Mutex<State>,
    /// Something is to be written, or the end has come.
    wake: Notify,
    clock: Clock,
    /// The server's time, s, and ours, when they met.
    met: (u64, Timestamp),
    longest_payload: usize,
    deadline: Duration,
    /// When the first of an unbroken row of timeouts was noticed, ms; 0 if something was heard since.
    silent_since: AtomicU64,
    /// Those that write and read. Gone with the connection's end.
    tasks: OnceLock<[AbortHandle; 2]>,
}

#[derive(Default)]
struct State {
    unwritten: BytesMut,
    /// Whether the writing task is at it.
    is_writing: bool,
    /// Reads that wait for a batch.
    gathered: Vec<Ask>,
    waiting: VecDeque<Waiting>,
    /// Why it ended.
    ended: Option<String>,
    /// Whether it ended by what the server said.
    is_soured: bool,
    /// What the next command is numbered by.
    next: u64,
}

/// A reader of one key.
struct Ask {
    name: Name,
    /// What comes back if it was asked for alone.
    number: u64,
    to: oneshot::Sender<Result<Option<Hit>, Fault>>,
}

/// Those who wait for the next replies.
enum Waiting {
    /// One reply.
    One(Ask),
    /// Replies by number, until the batch ends.
    Batch(Vec<Option<Ask>>),
    /// As a batch, all for one.
    Reads { names: Vec<Name>, found: Vec<Option<Hit>>, to: oneshot::Sender<Result<Vec<Option<Hit>>, Fault>> },
    /// So many replies.
    Row(Row),
    /// One reply, after which what was won is another's to win: then its reader is answered, who may ask for it next.
    Back(Answer),
}

/// What is told to whom once what it won has been handed back.
enum Answer {
    One(oneshot::Sender<Result<Option<Hit>, Fault>>, Option<Hit>),
    Many(oneshot::Sender<Result<Vec<Option<Hit>>, Fault>>, Vec<Option<Hit>>),
    Nobody,
}

/// What was won by somebody who has no use for it.
struct Back {
    name: Name,
    meta: Meta,
    then: Answer,
}

struct Row {
    /// Of each command that may win something.
    names: Vec<Option<Name>>,
    /// What each may be answered by.
    expects: Vec<Expect>,
    /// What the first is numbered by.
    first: u64,
    replies: Vec<Reply>,
    /// Bytes of the largest item.
    largest: usize,
    to: oneshot::Sender<Result<Vec<Reply>, Fault>>,
}

impl Wire {
    /// Serves a connection on which all that was asked has been answered.
    pub(crate) fn start(stream: Stream, parser: Parser, meeting: Meeting, setup: &Setup, run: u64) -> Self {
        let clock = setup.clock.clone();
        let line = Arc::new(Line {
            stream,
            state: Mutex::default(),
            wake: Notify::new(),
            met: (meeting.unix_now, clock.now()),
            clock,
            longest_payload: meeting.longest_payload,
            deadline: setup.deadline,
            silent_since: AtomicU64::new(0),
            tasks: OnceLock::new(),
        });
        let writes = tokio::spawn(line.clone().write()).abort_handle();
        let reads = tokio::spawn(Reading { line: line.clone() }.read(parser)).abort_handle();
        let _ = line.tasks.set([writes, reads]);
        Self { line, meeting, run }
    }

    /// How many runs of the server were met before this one.
    pub(crate) fn run(&self) -> u64 {
        self.run
    }

    /// Ends it, whoever waits.
    pub(crate) fn end(&self, cause: &str) {
        self.line.end(cause.to_owned());
    }

    /// Why it ended, if that was by what the server said, and soon after it was made.
    pub(crate) fn soured_young(&self) -> Option<String> {
        let is_young = self.line.clock.now().since(self.line.met.1) < YOUNG;
        let state = self.line.lock();
        state.ended.clone().filter(|_| state.is_soured && is_young)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.line.lock().ended.is_none()
    }

    /// The longest payload that may be stored, bytes.
    pub(crate) fn longest_payload(&self) -> usize {
        self.meeting.longest_payload
    }

    /// The server's time, s.
    pub(crate) fn unix_now(&self) -> u64 {
        self.line.unix_now()
    }

    /// Whether few enough reads wait that one more had better join them.
    pub(crate) fn has_room(&self) -> bool {
        self.line.lock().gathered.len() < CROWD
    }

    /// Reads one key, together with others that are being read.
    pub(crate) async fn read(&self, name: Name) -> Result<Option<Hit>, Fault> {
        let (to, found) = oneshot::channel();
        self.line.gather(Ask { name, number: 0, to })?;
        self.take(&[], found).await
    }

    /// Reads many keys by one batch.
    pub(crate) async fn read_all(&self, names: Vec<Name>) -> Result<Vec<Option<Hit>>, Fault> {
        let (to, answer) = oneshot::channel();
        self.line.submit(|_, state| {
            Command::encode_reads(&names, &mut state.unwritten);
            let found = names.iter().map(|_| None).collect();
            Waiting::Reads { names, found, to }
        })?;
        self.take(&[], answer).await
    }

    /// Sends `commands` in one go, and gives the reply to each.
    pub(crate) async fn ask_all(&self, commands: &[Command]) -> Result<Vec<Reply>, Fault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (to, answer) = oneshot::channel();
        self.line.submit(|unix_now, state| {
            let first = state.next;
            for command in commands {
                let number = state.number();
                command.encode_numbered(unix_now, Some(number), &mut state.unwritten);
            }
            Waiting::Row(Row::of(commands, first, to))
        })?;
        let replies = self.take(commands, answer).await?;
        if replies.len() == commands.len() { Ok(replies) } else { Err(Fault::Garbled("a reply is missing")) }
    }

    /// Sends one command.
    pub(crate) async fn ask(&self, command: Command) -> Result<Reply, Fault> {
        let mut replies = self.ask_all(std::slice::from_ref(&command)).await?;
        replies.pop().ok_or(Fault::Garbled("a reply is missing"))
    }

    /// Waits for the answer to `commands`.
    async fn take<T: Answered>(
        &self,
        commands: &[Command],
        answer: oneshot::Receiver<Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let since = self.line.clock.now();
        let mut awaited = Awaited { line: &self.line, commands, answer, since, has_come: false };
        let answer = (&mut awaited.answer).await;
        awaited.has_come = true;
        answer.unwrap_or_else(|_| Err(Fault::Broken(self.line.why_it_ended())))
    }
}

/// An answer that is waited for. Dropped before it has come, it notes that the server was silent; and what came between
/// the last look and the drop is handed back.
struct Awaited<'a, T: Answered> {
    line: &'a Line,
    commands: &'a [Command],
    answer: oneshot::Receiver<Result<T, Fault>>,
    since: Timestamp,
    has_come: bool,
}

impl<T: Answered> Drop for Awaited<'_, T> {
    fn drop(&mut self) {
        if self.has_come {
            return;
        }
        self.answer.close();
        match self.answer.try_recv() {
            Ok(Ok(answer)) => answer.hand_back(self.commands, self.line),
            Ok(Err(_)) => {}
            // Whoever left before could not know.
            Err(_) if self.line.clock.now().since(self.since) >= self.line.deadline / 2 => {
                self.line.note_silence()
            }
            Err(_) => {}
        }
    }
}

/// What commands are answered by.
trait Answered {
    /// Hands back what was won.
    fn hand_back(self, commands: &[Command], line: &Line);
}

impl Answered for Vec<Reply> {
    fn hand_back(self, commands: &[Command], line: &Line) {
        for (command, reply) in commands.iter().zip(self) {
            if let (Expect::Look | Expect::Value | Expect::Lease, Some(meta)) =
                (Expect::of(&command.verb), won(&reply))
            {
                line.hand_back(Back { name: command.name.clone(), meta, then: Answer::Nobody });
            }
        }
    }
}

/// A reader is answered after what it won has been handed back.
impl Answered for Option<Hit> {
    fn hand_back(self, _: &[Command], _: &Line) {}
}

impl Answered for Vec<Option<Hit>> {
    fn hand_back(self, _: &[Command], _: &Line) {}
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.line.end(String::from("no longer needed"));
    }
}

impl Line {
    fn unix_now(&self) -> u64 {
        let (unix, at) = self.met;
        unix.saturating_add(self.clock.now().since(at).as_secs())
    }

    fn why_it_ended(&self) -> String {
        self.lock().ended.clone().unwrap_or_else(|| String::from("the runtime has ended"))
    }

    /// Queues what `encode` writes, for those who wait as it says.
    fn submit(&self, encode: impl FnOnce(u64, &mut State) -> Waiting) -> Result<(), Fault> {
        let unix_now = self.unix_now();
        let mut state = self.open()?;
        if state.is_crowded() {
            return Err(Fault::Crowded);
        }
        let waiting = encode(unix_now, &mut state);
        self.push(state, waiting);
        Ok(())
    }

    fn push(&self, mut state: MutexGuard<'_, State>, waiting: Waiting) {
        let is_idle = state.is_idle();
        state.waiting.push_back(waiting);
        self.write_or_wake(state, is_idle);
    }

    fn gather(&self, ask: Ask) -> Result<(), Fault> {
        let mut state = self.open()?;
        if state.is_crowded() {
            return Err(Fault::Crowded);
        }
        let is_idle = state.is_idle() && state.gathered.is_empty();
        if is_idle {
            state.read(ask);
        } else {
            state.gathered.push(ask);
        }
        self.write_or_wake(state, is_idle);
        Ok(())
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, Fault> {
        let state = self.lock();
        if let Some(cause) = &state.ended {
            return Err(Fault::Broken(cause.clone()));
        }
        Ok(state)
    }

    /// Who finds nobody else here writes by itself as much as goes without waiting; what is left, the task does.
    fn write_or_wake(&self, mut state: MutexGuard<'_, State>, is_idle: bool) {
        if is_idle && let Ok(written) = self.stream.try_write(&state.unwritten) {
            let _ = state.unwritten.split_to(written);
        }
        let is_more = !state.unwritten.is_empty() || !state.gathered.is_empty();
        let wakes = is_more && !state.is_writing;
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Writes what gathers, until the end.
    async fn write(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            // Those who were answered together come again together: let them.
            yield_now().await;
            loop {
                let part = {
                    let mut state = self.lock();
                    if state.ended.is_some() {
                        return;
                    }
                    state.batch();
                    state.is_writing = !state.unwritten.is_empty();
                    if !state.is_writing {
                        break;
                    }
                    state.unwritten.split()
                };
                if let Err(error) = self.stream.write_all(&part).await {
                    return self.end(error.to_string());
                }
            }
        }
    }

    /// However many wait: it was won by a command that was counted.
    fn hand_back(&self, back: Back) {
        let command = Command { verb: giving_back(&back.meta), name: back.name };
        let unix_now = self.unix_now();
        // At the connection's end all that it won is lost with it.
        match self.open() {
            Ok(mut state) => {
                command.encode(unix_now, &mut state.unwritten);
                self.push(state, Waiting::Back(back.then));
            }
            Err(fault) => back.then.fail(&fault),
        }
    }

    /// Notes a timeout. Ends the connection if nothing was heard for some deadlines since the first one: its other end
    /// may be gone without a word.
    fn note_silence(&self) {
        let now = self.clock.now();
        match self.silent_since.load(Ordering::Relaxed) {
            0 => self.silent_since.store(now.as_millis().max(1), Ordering::Relaxed),
            since if now.since(Timestamp::from_millis(since)) >= self.deadline * SILENT_DEADLINES => {
                self.end(String::from("the server does not answer"));
            }
            _ => {}
        }
    }

    /// Ends it because of what the server said.
    fn sour(&self, fault: &Fault) {
        self.lock().is_soured = true;
        self.end(fault.cause());
    }

    /// Ends it. Whoever waits is told why.
    fn end(&self, cause: String) {
        let (waiting, gathered) = {
            let mut state = self.lock();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(cause.clone());
            state.unwritten = BytesMut::new();
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.gathered))
        };
        self.wake.notify_one();
        if let Some(tasks) = self.tasks.get() {
            tasks.iter().for_each(AbortHandle::abort);
        }
        let fault = Fault::Broken(cause);
        waiting.into_iter().for_each(|waiting| waiting.fail(&fault));
        Waiting::Batch(gathered.into_iter().map(Some).collect()).fail(&fault);
    }

    /// Gives `reply` to whoever waits for it.
    fn deliver(&self, reply: Reply) -> Result<(), Fault> {
        if self.silent_since.load(Ordering::Relaxed) != 0 {
            self.silent_since.store(0, Ordering::Relaxed);
        }
        let mut backs = Vec::new();
        let delivered = self.lock().deliver(reply, self.longest_payload, &mut backs);
        backs.into_iter().for_each(|back| self.hand_back(back));
        delivered
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether nobody else waits, for a reply or for being written.
    fn is_idle(&self) -> bool {
        !self.is_writing && self.waiting.is_empty()
    }

    fn is_crowded(&self) -> bool {
        self.waiting.len() + self.gathered.len() >= MOST_WAITING || self.unwritten.len() >= MOST_UNWRITTEN
    }

    /// What one more command is numbered by.
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    fn read(&mut self, mut ask: Ask) {
        ask.number = self.number();
        let command = Command { name: ask.name.clone(), verb: Verb::Read };
        command.encode_numbered(0, Some(ask.number), &mut self.unwritten);
        self.waiting.push_back(Waiting::One(ask));
    }

    /// Writes down the reads that have gathered.
    fn batch(&mut self) {
        self.gathered.retain(|ask| !ask.to.is_closed());
        while self.gathered.len() > 1 {
            let count = self.gathered.len().min(READS_PER_BATCH);
            let asks: Vec<Ask> = self.gathered.drain(..count).collect();
            Command::encode_reads(asks.iter().map(|ask| &ask.name), &mut self.unwritten);
            self.waiting.push_back(Waiting::Batch(asks.into_iter().map(Some).collect()));
        }
        if let Some(ask) = self.gathered.pop() {
            self.read(ask);
        }
    }

    fn deliver(&mut self, reply: Reply, longest: usize, backs: &mut Vec<Back>) -> Result<(), Fault> {
        const STRAY: Fault = Fault::Garbled("a reply that nobody waits for");
        if let Some(Waiting::Row(row)) = self.waiting.front_mut()
            && row.is_out_of_memory(&reply)
        {
            // The item's bytes were skipped; all else goes on.
        } else if let Reply::Error(said) = &reply {
            let Some(front) = self.waiting.pop_front() else { return Err(Fault::refused(said, 0, longest)) };
            let fault = Fault::refused(said, front.largest(), longest);
            front.fail(&fault);
            return Err(fault);
        }
        let is_last = match (self.waiting.front_mut().ok_or(STRAY)?, &reply) {
            (Waiting::One(_) | Waiting::Back(_), _) => true,
            (Waiting::Batch(_) | Waiting::Reads { .. }, _) => reply == Reply::Noop,
            (Waiting::Row(row), _) => {
                row.check(&reply)?;
                row.names.len() == row.replies.len() + 1
            }
        };
        if is_last {
            return match self.waiting.pop_front() {
                Some(front) => front.finish(reply, backs),
                None => Err(STRAY),
            };
        }
        match (self.waiting.front_mut(), reply) {
            (Some(Waiting::Row(row)), reply) => row.replies.push(reply),
            (Some(Waiting::Batch(asks)), Reply::Value(meta, bytes)) => {
                place(asks, &meta)?.take().ok_or(STRAY)?.answer(Some((meta, bytes)), backs);
            }
            (Some(Waiting::Reads { found, .. }), Reply::Value(meta, bytes)) => {
                *place(found, &meta)? = Some((meta, bytes));
            }
            _ => return Err(STRAY),
        }
        Ok(())
    }
}

/// What the reply is numbered by.
fn place<'a, T>(places: &'a mut [T], meta: &Meta) -> Result<&'a mut T, Fault> {
    let at = meta.opaque.and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| places.get_mut(at)).ok_or(Fault::Garbled("a reply to a read that was not asked for"))
}

impl Ask {
    /// A reader has no use for what it wins.
    fn answer(self, hit: Option<Hit>, backs: &mut Vec<Back>) {
        match &hit {
            Some((meta, _)) if meta.won => {
                backs.push(Back { name: self.name, meta: *meta, then: Answer::One(self.to, hit) });
            }
            _ => Answer::One(self.to, hit).give(),
        }
    }
}

impl Answer {
    fn give(self) {
        // Who has left needs no answer.
        match self {
            Self::One(to, hit) => drop(to.send(Ok(hit))),
            Self::Many(to, hits) => drop(to.send(Ok(hits))),
            Self::Nobody => {}
        }
    }

    fn fail(self, fault: &Fault) {
        match self {
            Self::One(to, _) => drop(to.send(Err(fault.clone()))),
            Self::Many(to, _) => drop(to.send(Err(fault.clone()))),
            Self::Nobody => {}
        }
    }
}

/// Has the next one to read win what was won.
pub(crate) fn giving_back(won: &Meta) -> Verb {
    // An empty item that was not marked was put for the winner.
    if won.size == 0 && !won.stale { Verb::Delete(won.cas) } else { Verb::Stale(won.cas, None) }
}

/// As [`Ask::answer`], for many. Commands are carried out in their order, so the last one's reply tells of all.
fn answer_all(
    names: Vec<Name>,
    found: Vec<Option<Hit>>,
    to: oneshot::Sender<Result<Vec<Option<Hit>>, Fault>>,
    backs: &mut Vec<Back>,
) {
    let won = |(name, hit): (Name, &Option<Hit>)| {
        let meta = hit.as_ref().map(|(meta, _)| *meta).filter(|meta| meta.won)?;
        Some(Back { name, meta, then: Answer::Nobody })
    };
    let mut all: Vec<Back> = names.into_iter().zip(&found).filter_map(won).collect();
    match all.last_mut() {
        Some(last) => last.then = Answer::Many(to, found),
        None => Answer::Many(to, found).give(),
    }
    backs.append(&mut all);
}

impl Waiting {
    /// Takes the last reply.
    fn finish(self, reply: Reply, backs: &mut Vec<Back>) -> Result<(), Fault> {
        match self {
            Self::One(ask) => match reply {
                Reply::Value(meta, bytes) if meta.opaque == Some(ask.number) => {
                    ask.answer(Some((meta, bytes)), backs)
                }
                Reply::Missing => ask.answer(None, backs),
                _ => {
                    let fault = Fault::Garbled("a read was answered by something else");
                    let _ = ask.to.send(Err(fault.clone()));
                    return Err(fault);
                }
            },
            Self::Batch(asks) => asks.into_iter().flatten().for_each(|ask| ask.answer(None, backs)),
            Self::Reads { names, found, to } => answer_all(names, found, to, backs),
            Self::Row(row) => row.finish(reply, backs),
            Self::Back(answer) if Expect::Change.admits(&reply) => answer.give(),
            Self::Back(answer) => {
                let fault = Fault::Garbled("a change was answered by something else");
                answer.fail(&fault);
                return Err(fault);
            }
        }
        Ok(())
    }

    fn fail(self, fault: &Fault) {
        // Who has left need not be told.
        match self {
            Self::One(ask) => drop(ask.to.send(Err(fault.clone()))),
            Self::Batch(asks) => {
                asks.into_iter().flatten().for_each(|ask| drop(ask.to.send(Err(fault.clone()))));
            }
            Self::Reads { to, .. } => drop(to.send(Err(fault.clone()))),
            Self::Row(row) => drop(row.to.send(Err(fault.clone()))),
            Self::Back(answer) => answer.fail(fault),
        }
    }

    fn largest(&self) -> usize {
        match self {
            Self::Row(row) => row.largest,
            _ => 0,
        }
    }
}

impl Row {
    fn of(commands: &[Command], first: u64, to: oneshot::Sender<Result<Vec<Reply>, Fault>>) -> Self {
        let expects = commands.iter().map(|command| Expect::of(&command.verb)).collect();
        let names = commands.iter().map(|command| match command.verb {
            Verb::Look | Verb::Read | Verb::Lease(_) => Some(command.name.clone()),
            _ => None,
        });
        let sizes = commands.iter().map(|command| match &command.verb {
            Verb::Add(item) | Verb::Swap(_, item) | Verb::Set(item) => item.payload.len(),
            _ => 0,
        });
        let largest = sizes.max().unwrap_or_default();
        Self {
            names: names.collect(),
            expects,
            first,
            replies: Vec::with_capacity(commands.len()),
            largest,
            to,
        }
    }

    /// Whether `reply` answers the next command.
    fn check(&self, reply: &Reply) -> Result<(), Fault> {
        let at = self.replies.len();
        let number = self.first.wrapping_add(at as u64);
        let is_numbered = match reply {
            Reply::Value(meta, _) | Reply::Done(meta) => meta.opaque == Some(number),
            _ => true,
        };
        let is_expected = self.expects.get(at).is_some_and(|expect| expect.admits(reply));
        if is_numbered && is_expected {
            Ok(())
        } else {
            Err(Fault::Garbled("a command was answered by something else"))
        }
    }

    /// Whether the next command was one to store, for which the server had no memory.
    fn is_out_of_memory(&self, reply: &Reply) -> bool {
        self.expects.get(self.replies.len()) == Some(&Expect::Store)
            && Expect::Store.admits(reply)
            && matches!(reply, Reply::Error(_))
    }

    /// What was won for somebody who has left is handed back.
    fn finish(mut self, last: Reply, backs: &mut Vec<Back>) {
        self.replies.push(last);
        let Err(Ok(replies)) = self.to.send(Ok(self.replies)) else { return };
        for (name, reply) in self.names.into_iter().zip(replies) {
            if let (Some(name), Some(meta)) = (name, won(&reply)) {
                backs.push(Back { name, meta, then: Answer::Nobody });
            }
        }
    }
}

/// Of a reply by which something was won.
fn won(reply: &Reply) -> Option<Meta> {
    match reply {
        Reply::Value(meta, _) | Reply::Done(meta) if meta.won => Some(*meta),
        _ => None,
    }
}

/// The task that reads. Dropped before its end, because its runtime ends, it leaves nobody waiting.
struct Reading {
    line: Arc<Line>,
}

impl Reading {
    async fn read(self, mut parser: Parser) {
        let mut input = BytesMut::new();
        loop {
            match self.line.stream.read(&mut input).await {
                Ok(0) => return self.line.end(String::from("the server closed it")),
                Ok(_) => {}
                Err(error) => return self.line.end(error.to_string()),
            }
            loop {
                let delivered = match parser.next(&mut input) {
                    Ok(Some(reply)) => self.line.deliver(reply),
                    Ok(None) => break,
                    Err(malformed) => Err(Fault::Garbled(malformed.0)),
                };
                if let Err(fault) = delivered {
                    return self.line.sour(&fault);
                }
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.line.end(String::from("the runtime has ended"));
    }
}
