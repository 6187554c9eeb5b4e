//! The backend: who is listed, in one sorted set a cache.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Enrolled, Key, Member, MemberBackend, Result, Roll};

use crate::RedisBackend;
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::Again;
use crate::reply::Reply;
use crate::script::{self, Argument};

#[async_trait]
impl MemberBackend for RedisBackend {
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        let enrolled = self.try_enroll(registry, member, term).await;
        enrolled.map_err(|fault| self.error(fault, "redis enroll", registry))
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        let left = self.try_leave(registry, member).await;
        left.map_err(|fault| self.error(fault, "redis leave", registry))
    }

    async fn roll(&self, registry: &Key) -> Result<Roll> {
        self.try_roll(registry).await.map_err(|fault| self.error(fault, "redis roll", registry))
    }
}

impl RedisBackend {
    pub(crate) async fn try_enroll(
        &self,
        registry: &Key,
        member: &Member,
        term: Duration,
    ) -> Result<Enrolled, Fault> {
        let (member, term) = (member.to_bytes(), millis(term).max(1).to_string());
        let arguments = [&member[..], term.as_bytes()].map(Argument::Bytes);
        // Sent twice, the second would be told that it had been listed all the time.
        let mut reply = self.run(&script::ENROLL, registry, &arguments, Again::Never).await?;
        match &*reply.status {
            b"RENEWED" => Ok(Enrolled { was_listed: true, registry: reply.number() }),
            b"NEW" => Ok(Enrolled { was_listed: false, registry: reply.number() }),
            _ => reply.unknown(),
        }
    }

    pub(crate) async fn try_leave(&self, registry: &Key, member: &Member) -> Result<bool, Fault> {
        let member = member.to_bytes();
        let reply = self.run(&script::LEAVE, registry, &[Argument::Bytes(&member)], Again::Once).await?;
        Ok(reply.status == b"LEFT")
    }

    pub(crate) async fn try_roll(&self, registry: &Key) -> Result<Roll, Fault> {
        self.run(&script::ROLL, registry, &[], Again::Once).await.and_then(roll)
    }
}

fn roll(mut reply: Reply) -> Result<Roll, Fault> {
    if reply.status != b"ROLL" {
        return reply.unknown();
    }
    let age = Duration::from_millis(reply.number());
    let mut members = Vec::new();
    while let Some(member) = reply.bytes() {
        // Left out, it would not be waited for.
        let member = Member::from_bytes(&member).ok_or(Fault::Garbled("a member without an id"))?;
        members.push((member, Duration::from_millis(reply.number())));
    }
    Ok(Roll { members, age })
}
