//! Leaderboards as sorted sets.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use cachalot_core::{CacheKey, Error, ErrorKind, Key, Result};
use redis::Value;

use super::hash::about;
use super::way::{Call, Place, Way};
use super::{read, script};
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::Again;
use crate::script::Script;

/// Members by score, highest first, in a sorted set. From
/// [`RedisPatterns::leaderboard`](super::RedisPatterns::leaderboard). `M` is what members are read back as.
///
/// # Ties
/// Of members with the same score the one whose bytes are greater comes first, as Redis has it: `b` before `a`, and `9`
/// before `10`. Ranks are counted from 0 and no two members share one.
///
/// # Scores
/// Finite numbers; whole ones are exact up to 2⁵³.
pub struct Leaderboard<M = String> {
    way: Way,
    place: Place,
    ttl: Option<Duration>,
    member: PhantomData<fn() -> M>,
}

/// A member, where it stands, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked<M = String> {
    /// 0 for the first.
    pub rank: u64,
    /// Who.
    pub member: M,
    /// The score.
    pub score: f64,
}

impl<M> Leaderboard<M> {
    pub(super) fn new(way: Way, key: Key) -> Self {
        let place = way.place(key);
        Self { way, place, ttl: None, member: PhantomData }
    }

    /// Ends the leaderboard so long after its first member came; no later one prolongs it. Default: it does not end.
    /// Less than a millisecond counts as one.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Sets the score of `member`, listed or not. `true` if it is new.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Config`] if `score` is not finite.
    pub async fn add(&self, member: &(impl CacheKey + ?Sized), score: f64) -> Result<bool> {
        let operation = "redis leaderboard add";
        let added = self.write(operation, b"ZADD", member, score).await?;
        Ok(self.answer(operation, read::number(added))? == 1)
    }

    /// Adds to the score of `member`, which is 0 if it is not listed, and gives the new one.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Config`] if `by` is not finite. If the connection breaks, it may have
    /// been added.
    pub async fn increment(&self, member: &(impl CacheKey + ?Sized), by: f64) -> Result<f64> {
        let operation = "redis leaderboard increment";
        let score = self.write(operation, b"ZINCRBY", member, by).await?;
        self.answer(operation, read::score(score))
    }

    /// Lists these members and no others, in one step: for a leaderboard that is made anew of what it is about. Its
    /// time to live begins again. Of a member that comes twice the last score counts.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Config`] if a score is not finite.
    pub async fn replace<'a, Q: CacheKey + ?Sized + 'a>(
        &self,
        members: impl IntoIterator<Item = (&'a Q, f64)>,
    ) -> Result<()> {
        self.write_all("redis leaderboard replace", &script::BOARD_REPLACE, members).await
    }

    /// Lists these members, or raises the scores of those that are listed; no score gets lower. For scores that only
    /// grow, and are known elsewhere: whoever says what it knows, however often and in whatever order, the highest counts
    /// in the end. One step. Needs Redis 6.2.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Config`] if a score is not finite.
    pub async fn raise<'a, Q: CacheKey + ?Sized + 'a>(
        &self,
        members: impl IntoIterator<Item = (&'a Q, f64)>,
    ) -> Result<()> {
        self.write_all("redis leaderboard raise", &script::BOARD_RAISE, members).await
    }

    /// Raises the score of `member` if it is listed, and never lists it: for who knows of one member and must not begin a
    /// leaderboard with it alone. `false` if it is not listed or its score is as high already. Needs Redis 6.2.
    ///
    /// # Errors
    /// As [`raise`](Leaderboard::raise).
    pub async fn raise_listed(&self, member: &(impl CacheKey + ?Sized), score: f64) -> Result<bool> {
        const OPERATION: &str = "redis leaderboard raise";
        let mut command = about("ZADD", &self.place);
        command.arg("XX").arg("GT").arg("CH").arg(self.score(OPERATION, score)?).arg(member.to_key_bytes());
        // Twice is once: what counts is the highest.
        let raised = self.way.ask(OPERATION, &self.place, &command, Again::Once).await?;
        Ok(self.answer(OPERATION, read::number(raised))? == 1)
    }

    /// How many stand before `member`; `None` if it is not listed.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn rank(&self, member: &(impl CacheKey + ?Sized)) -> Result<Option<u64>> {
        const OPERATION: &str = "redis leaderboard rank";
        match self.ask_about(OPERATION, "ZREVRANK", member).await? {
            Value::Nil => Ok(None),
            rank => self.answer(OPERATION, read::count(rank)).map(Some),
        }
    }

    /// The score of `member`; `None` if it is not listed.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn score_of(&self, member: &(impl CacheKey + ?Sized)) -> Result<Option<f64>> {
        const OPERATION: &str = "redis leaderboard score";
        match self.ask_about(OPERATION, "ZSCORE", member).await? {
            Value::Nil => Ok(None),
            score => self.answer(OPERATION, read::score(score)).map(Some),
        }
    }

    /// Strikes `member` off; `false` if it was not listed.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn remove(&self, member: &(impl CacheKey + ?Sized)) -> Result<bool> {
        const OPERATION: &str = "redis leaderboard remove";
        let removed = self.ask_about(OPERATION, "ZREM", member).await?;
        Ok(self.answer(OPERATION, read::number(removed))? == 1)
    }

    /// How many members there are.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn len(&self) -> Result<u64> {
        const OPERATION: &str = "redis leaderboard len";
        let command = about("ZCARD", &self.place);
        let len = self.way.ask(OPERATION, &self.place, &command, Again::Once).await?;
        self.answer(OPERATION, read::count(len))
    }

    /// Whether nobody is listed.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    async fn write_all<'a, Q: CacheKey + ?Sized + 'a>(
        &self,
        operation: &'static str,
        script: &Script,
        members: impl IntoIterator<Item = (&'a Q, f64)>,
    ) -> Result<()> {
        let mut arguments = vec![self.life().into_bytes()];
        for (member, score) in members {
            arguments.push(self.score(operation, score)?.into_bytes());
            arguments.push(member.to_key_bytes());
        }
        self.way.check_size(operation, &self.place, arguments.iter().map(Vec::len).sum())?;
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| &**argument).collect();
        self.way.run(operation, &self.place, Call::new(script, &arguments)).await.map(drop)
    }

    async fn write(
        &self,
        operation: &'static str,
        command: &[u8],
        member: &(impl CacheKey + ?Sized),
        score: f64,
    ) -> Result<Value> {
        let (score, member, life) = (self.score(operation, score)?, member.to_key_bytes(), self.life());
        self.way.check_size(operation, &self.place, member.len())?;
        let arguments = [command, score.as_bytes(), &member, life.as_bytes()];
        self.way.run(operation, &self.place, Call::new(&script::BOARD_WRITE, &arguments)).await
    }

    async fn ask_about(
        &self,
        operation: &'static str,
        verb: &str,
        member: &(impl CacheKey + ?Sized),
    ) -> Result<Value> {
        let mut command = about(verb, &self.place);
        command.arg(member.to_key_bytes());
        self.way.ask(operation, &self.place, &command, Again::Once).await
    }

    fn life(&self) -> String {
        self.ttl.map_or(0, |ttl| millis(ttl).max(1)).to_string()
    }

    /// As the server reads it back to the same bits.
    fn score(&self, operation: &'static str, score: f64) -> Result<String> {
        if score.is_finite() {
            return Ok(format!("{score:e}"));
        }
        let detail = format!("a score is a finite number, not {score}");
        Err(Error::new(ErrorKind::Config, operation).detail(detail).key(self.place.key.as_bytes()))
    }

    fn answer<T>(&self, operation: &'static str, answer: Result<T, Fault>) -> Result<T> {
        answer.map_err(|fault| self.way.error(fault, operation, &self.place))
    }
}

impl<M: CacheKey> Leaderboard<M> {
    /// The first `n`, or all if there are fewer.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Decode`] if a member is no `M`.
    pub async fn top(&self, n: usize) -> Result<Vec<Ranked<M>>> {
        const OPERATION: &str = "redis leaderboard top";
        if n == 0 {
            return Ok(Vec::new());
        }
        let mut command = about("ZREVRANGE", &self.place);
        command.arg(0).arg(n - 1).arg("WITHSCORES");
        let found = self.way.ask(OPERATION, &self.place, &command, Again::Once).await?;
        self.ranked(OPERATION, 0, found)
    }

    /// `member` with `radius` before it and as many behind it, fewer at the ends; `None` if it is not listed. One step:
    /// ranks and scores are of one moment.
    ///
    /// # Errors
    /// As [`top`](Leaderboard::top).
    pub async fn around(
        &self,
        member: &(impl CacheKey + ?Sized),
        radius: u32,
    ) -> Result<Option<Vec<Ranked<M>>>> {
        const OPERATION: &str = "redis leaderboard around";
        let (member, radius) = (member.to_key_bytes(), radius.to_string());
        let arguments = [&*member, radius.as_bytes()];
        let call = Call::new(&script::BOARD_AROUND, &arguments).again();
        let found = match self.way.run(OPERATION, &self.place, call).await? {
            Value::Nil => return Ok(None),
            found => self.answer(OPERATION, read::list(found))?,
        };
        let mut found = found.into_iter();
        let first = self.answer(OPERATION, read::count(found.next().unwrap_or_default()))?;
        self.ranked(OPERATION, first, found.next().unwrap_or_default()).map(Some)
    }

    fn ranked(&self, operation: &'static str, first: u64, found: Value) -> Result<Vec<Ranked<M>>> {
        let pairs = self.answer(operation, read::pairs(found))?;
        let ranked = |(rank, (member, score)): (u64, (Vec<u8>, Value))| {
            let score = self.answer(operation, read::score(score))?;
            let member = M::read_key(&member).ok_or_else(|| self.no_member(operation))?;
            Ok(Ranked { rank, member, score })
        };
        (first..).zip(pairs).map(ranked).collect()
    }

    fn no_member(&self, operation: &'static str) -> Error {
        let error =
            Error::new(ErrorKind::Decode, operation).detail("a member is of another type than is read");
        error.key(self.place.key.as_bytes()).node(self.way.node())
    }
}

impl<M> Clone for Leaderboard<M> {
    fn clone(&self) -> Self {
        Self { way: self.way.clone(), place: self.place.clone(), ttl: self.ttl, member: PhantomData }
    }
}

impl<M> fmt::Debug for Leaderboard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaderboard").field("key", &self.place.key).field("ttl", &self.ttl).finish()
    }
}
