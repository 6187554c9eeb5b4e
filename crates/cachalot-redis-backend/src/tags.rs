//! The backend: the tokens of tags, a string of 32 bytes each.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Depth, Error, Key, Result, TagBackend, TagToken};
use redis::{Pipeline, Value};

use crate::RedisBackend;
use crate::backend::millis;
use crate::era::Era;
use crate::fault::Fault;
use crate::link::{Again, Request};
use crate::mget::{self, mget};

const NO_TOKEN: Fault = Fault::Garbled("no tag token where one was put");

/// Where the half begins that an expiry changes.
const EXPIRED: usize = 16;

#[async_trait]
impl TagBackend for RedisBackend {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let command = mget(self.key_prefix(), names.iter());
        let answer = self.link_for_reads().send(Request::One(&command), Again::Once).await;
        let read = answer.and_then(|answer| {
            let era = answer.era();
            let values = mget::values(answer.value, names.len())?.into_iter();
            Ok(values.map(|value| token_in(era, value)).collect())
        });
        read.map_err(|fault| self.tag_error(fault, "redis tag_tokens", names))
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let pinned = self.try_pin_tags(names, fresh, ttl).await;
        pinned.map_err(|fault| self.tag_error(fault, "redis pin_tags", names))
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let rotated = self.try_rotate_tags(names, fresh, depth, ttl).await;
        rotated.map_err(|fault| self.tag_error(fault, "redis rotate_tags", names))
    }
}

impl RedisBackend {
    pub(crate) async fn try_pin_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        ttl: Duration,
    ) -> Result<Vec<TagToken>, Fault> {
        let pinned = self.pin_once(names, fresh, ttl).await?;
        let strays = names.iter().zip(&pinned).filter(|(_, token)| token.is_none()).map(|(name, _)| name);
        let strays: Vec<&Key> = strays.collect();
        if strays.is_empty() {
            return Ok(pinned.into_iter().flatten().collect());
        }
        // What is no token fits no entry. Gone, it is a token that is missing, and the next one to ask puts one. Not
        // this one, who has sent its own already: a token is sent once.
        let unlink = |_: Era| {
            let mut pipeline = Pipeline::with_capacity(strays.len());
            for name in &strays {
                pipeline.cmd("UNLINK").arg(&*self.name(name));
            }
            pipeline
        };
        self.run_tags(strays.len(), &unlink).await?;
        Err(NO_TOKEN)
    }

    pub(crate) async fn try_rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<(), Fault> {
        let ttl = millis(ttl).max(1);
        let rotate = |era: Era| {
            let mut pipeline = Pipeline::with_capacity(names.len() * 2);
            for (name, fresh) in names.iter().zip(fresh) {
                let (name, token) = (&*self.name(name), era.tag_token(fresh.to_bytes()));
                let set = pipeline.cmd("SET").arg(name).arg(&token);
                match depth {
                    Depth::Remove => set.arg("PX").arg(ttl),
                    // Only where there is none; what is there keeps its first half, and its life.
                    Depth::Expire => {
                        set.arg("NX").arg("PX").arg(ttl);
                        pipeline.cmd("SETRANGE").arg(name).arg(EXPIRED).arg(&token[EXPIRED..])
                    }
                };
            }
            pipeline
        };
        let commands = match depth {
            Depth::Remove => names.len(),
            Depth::Expire => names.len() * 2,
        };
        self.run_tags(commands, &rotate).await.map(drop)
    }

    /// `None` for what is no token, where one should be.
    async fn pin_once(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        ttl: Duration,
    ) -> Result<Vec<Option<TagToken>>, Fault> {
        let ttl = millis(ttl).max(1);
        let pin = |era: Era| {
            let mut pipeline = Pipeline::with_capacity(names.len() * 3);
            for (name, fresh) in names.iter().zip(fresh) {
                let (name, token) = (&*self.name(name), era.tag_token(fresh.to_bytes()));
                pipeline.cmd("SET").arg(name).arg(&token).arg("NX").arg("PX").arg(ttl);
                pipeline.cmd("PEXPIRE").arg(name).arg(ttl).arg("GT");
                // As GET, but for what is no string there is no error.
                pipeline.cmd("MGET").arg(name);
            }
            pipeline
        };
        let (replies, era) = self.run_tags(names.len() * 3, &pin).await?;
        let token = |reply| match reply {
            Value::Array(values) => Ok(values.into_iter().next().and_then(|value| token_in(era, value))),
            _ => Err(NO_TOKEN),
        };
        replies.into_iter().skip(2).step_by(3).map(token).collect()
    }

    /// Never sent twice: a token that had been replaced meanwhile would come back.
    async fn run_tags(
        &self,
        commands: usize,
        pipeline: &(dyn Fn(Era) -> Pipeline + Sync),
    ) -> Result<(Vec<Value>, Era), Fault> {
        if commands == 0 {
            return Ok((Vec::new(), Era::NONE));
        }
        let answer = self.link_aside().send(Request::ManyIn(pipeline), Again::Never).await?;
        let (era, replies) = (answer.era(), answer.into_list()?);
        if replies.len() != commands {
            return Err(Fault::Garbled("a pipeline answered for other commands"));
        }
        let replies: Result<_, Fault> = replies.into_iter().map(|reply| Ok(reply.extract_error()?)).collect();
        Ok((replies?, era))
    }

    fn tag_error(&self, fault: Fault, operation: &'static str, names: &[Key]) -> Error {
        match names.first() {
            Some(name) => self.error(fault, operation, name),
            None => fault.into_error(operation, self.node()),
        }
    }
}

/// The token in `value`, which a server of `era` gave, as callers know it.
pub(crate) fn token_in(era: Era, value: Value) -> Option<TagToken> {
    let bytes = <[u8; TagToken::LEN]>::try_from(mget::bytes(value)?).ok()?;
    TagToken::from_bytes(&era.tag_token(bytes))
}
