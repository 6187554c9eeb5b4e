//! The backend of the layout: for each tag a set of keys, for who is to delete them, and a token, by which what is
//! on its way under an old one is refused.
//!
//! A value is stored and noted in the sets of its tags in one step, which looks at the tokens too. So what was stored
//! before a tag's token changed is in its set, and what comes after, under the old one, is not stored.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Depth, Error, ErrorKind, Key, Result, TagBackend, TagToken};
use redis::{Cmd, Pipeline, Value};

use super::backend::{KEYS_PER_SCRIPT, PlainBackend};
use super::{names, script};
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::{Again, Request};
use crate::mget;
use crate::scan::{self, Place, Scanned};
use crate::tag_index::Policy;

/// Where the half begins that an expiry changes.
const EXPIRED: usize = 16;
/// How many keys of a set are asked for at a time.
const KEYS_PER_PAGE: usize = 500;

#[async_trait]
impl TagBackend for PlainBackend {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = Cmd::new();
        command.arg("MGET");
        names.iter().for_each(|name| {
            command.arg(self.token_name(name));
        });
        let answer = self.link_for_reads().send(Request::One(&command), Again::Once).await;
        let read = answer.and_then(|answer| mget::values(answer.value, names.len()));
        let values = read.map_err(|fault| self.error_of_all(fault, "redis plain tag_tokens"))?;
        let token = |value| TagToken::from_bytes(&mget::bytes(value)?);
        Ok(values.into_iter().map(token).collect())
    }

    /// # Errors
    /// [`ErrorKind::Unsupported`] too, if the server evicts keys of all kinds: without its set, a tag's removal would
    /// miss keys without a word.
    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        const OPERATION: &str = "redis plain pin_tags";
        if names.iter().any(|name| names::tag_of(name).is_some_and(|tag| !tag.is_empty())) {
            self.refuse_eviction(OPERATION).await?;
        }
        let ttl = millis(ttl).max(1);
        let mut pipeline = Pipeline::with_capacity(names.len() * 3);
        for (name, fresh) in names.iter().zip(fresh) {
            let name = self.token_name(name);
            pipeline.cmd("SET").arg(&name).arg(&fresh.to_bytes()).arg("NX").arg("PX").arg(ttl);
            pipeline.cmd("PEXPIRE").arg(&name).arg(ttl).arg("GT");
            pipeline.cmd("GET").arg(&name);
        }
        let pinned = self.run_tokens(&pipeline).await.and_then(|replies| {
            let gets = replies.into_iter().skip(2).step_by(3);
            let token = |reply| mget::bytes(reply).and_then(|bytes| TagToken::from_bytes(&bytes));
            gets.map(|reply| token(reply).ok_or(Fault::Garbled("no tag token where one was put"))).collect()
        });
        pinned.map_err(|fault| self.error_of_all(fault, OPERATION))
    }

    /// Then removes every key in the sets of these tags, whatever the depth, a page at a time; each page has the
    /// deadline of any other operation.
    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let rotated = async {
            self.run_tokens(&self.rotation(names, fresh, depth, ttl)).await?;
            for tag in names.iter().filter_map(names::tag_of).filter(|tag| !tag.is_empty()) {
                self.remove_tagged(&names::set(tag)).await?;
            }
            Ok(())
        };
        rotated.await.map_err(|fault| self.error_of_all(fault, "redis plain rotate_tags"))
    }
}

impl PlainBackend {
    /// Tags are everybody's here: their tokens lie beside their sets, whichever cache asks.
    fn token_name(&self, name: &Key) -> Vec<u8> {
        match names::tag_of(name) {
            Some(tag) => names::token(tag),
            None => names::bare(&self.limits.key_prefix, name).into_owned(),
        }
    }

    async fn refuse_eviction(&self, operation: &'static str) -> Result<()> {
        let asked = self.loses_tags.get_or_try_init(|| Policy::evicts_any(&self.aside)).await;
        if !*asked.map_err(|fault| self.error_of_all(fault, operation))? {
            return Ok(());
        }
        let detail = "with a maxmemory-policy of allkeys-* the server may evict the set of a tag, and removing the tag \
                      would miss keys without a word; set it to noeviction or one of volatile-*, or use no tags";
        Err(Error::new(ErrorKind::Unsupported, operation).detail(detail))
    }

    fn rotation(&self, names: &[Key], fresh: &[TagToken], depth: Depth, ttl: Duration) -> Pipeline {
        let ttl = millis(ttl).max(1);
        let mut pipeline = Pipeline::with_capacity(names.len() * 2);
        for (name, fresh) in names.iter().zip(fresh) {
            let (name, token) = (self.token_name(name), fresh.to_bytes());
            let set = pipeline.cmd("SET").arg(&name).arg(&token);
            match depth {
                Depth::Remove => set.arg("PX").arg(ttl),
                // Only where there is none; what is there keeps its first half, and its life.
                Depth::Expire => {
                    set.arg("NX").arg("PX").arg(ttl);
                    pipeline.cmd("SETRANGE").arg(&name).arg(EXPIRED).arg(&token[EXPIRED..])
                }
            };
        }
        pipeline
    }

    /// Never sent twice: a token that had been replaced meanwhile would come back.
    async fn run_tokens(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let replies = self.aside.send(Request::Many(pipeline), Again::Never).await?.into_list()?;
        if replies.len() != pipeline.len() {
            return Err(Fault::Garbled("a pipeline answered for other commands"));
        }
        replies.into_iter().map(|reply| Ok(reply.extract_error()?)).collect()
    }

    /// Removes every key in `set`, and forgets it there.
    async fn remove_tagged(&self, set: &[u8]) -> Result<(), Fault> {
        let mut next = Some(Place::START);
        while let Some(from) = next {
            next = self.aside.within_deadline(self.remove_page(set, from)).await?;
        }
        Ok(())
    }

    async fn remove_page(&self, set: &[u8], from: Place) -> Result<Option<Place>, Fault> {
        let mut command = Cmd::new();
        command.arg("SSCAN").arg(set).arg(from.cursor()).arg("COUNT").arg(KEYS_PER_PAGE);
        let (items, next) = match scan::page(&self.aside, &command, from).await {
            Ok(Scanned::Page { items, next, .. }) => (items, next),
            Ok(Scanned::Anew) => return Ok(Some(Place::START)),
            // No set, and so nothing in it.
            Err(Fault::OtherType) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let members: Vec<Vec<u8>> = items.into_iter().filter_map(mget::bytes).collect();
        let chunks: Vec<&[Vec<u8>]> = members.chunks(KEYS_PER_SCRIPT).collect();
        let command = |by, chunk: &&[Vec<u8>]| {
            let pairs = chunk.iter().flat_map(|member| [member.clone(), names::lock(member)]);
            let keys: Vec<Vec<u8>> = [set.to_vec()].into_iter().chain(pairs).collect();
            script::UNTAG.command(by, &keys, &[])
        };
        scan::run_each(&self.aside, &chunks, command).await?;
        Ok(next)
    }
}
