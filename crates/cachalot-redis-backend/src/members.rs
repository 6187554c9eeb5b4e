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
        let (member, term) = (member.to_bytes(), millis(term).max(1).to_string());
        // Sent twice, the second would be told that it had been listed all the time.
        let reply = self
            .run(
                &script::ENROLL,
                registry,
                &[&member[..], term.as_bytes()].map(Argument::Bytes),
                Again::Never,
            )
            .await;
        let enrolled = |mut reply: Reply| match &*reply.status {
            b"RENEWED" => Ok(Enrolled { was_listed: true, registry: reply.number() }),
            b"NEW" => Ok(Enrolled { was_listed: false, registry: reply.number() }),
            _ => reply.unknown(),
        };
        reply.and_then(enrolled).map_err(|fault| self.error(fault, "redis enroll", registry))
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        let left =
            self.run(&script::LEAVE, registry, &[Argument::Bytes(&member.to_bytes())], Again::Once).await;
        left.map(|reply| reply.status == b"LEFT").map_err(|fault| self.error(fault, "redis leave", registry))
    }

    async fn roll(&self, registry: &Key) -> Result<Roll> {
        let reply = self.run(&script::ROLL, registry, &[], Again::Once).await;
        reply.and_then(roll).map_err(|fault| self.error(fault, "redis roll", registry))
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
