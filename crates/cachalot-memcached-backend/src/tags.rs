//! The backend: the tokens of tags, an item of 32 bytes each.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Depth, Error, Key, Result, TagBackend, TagToken};

use crate::MemcachedBackend;
use crate::backend::{Again, Inner};
use crate::codec::{Command, LONGEST, Meta, Name, Verb, seconds};
use crate::fault::Fault;
use crate::record::{self, tag_in};
use crate::settle::{Step, done, hit, settle};
use crate::wire::{Hit, Wire};

const NO_TOKEN: Fault = Fault::Garbled("no tag token where one was put");

#[async_trait]
impl TagBackend for MemcachedBackend {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = &self.names(names);
        let read = |wire: Arc<Wire>| async move { wire.read_all(wanted.clone()).await };
        let hits = self.inner().over(self.inner().link_in_turn(), Again::Once, read).await;
        let token = |(meta, bytes): Hit| tag_in(&meta, &bytes);
        let tokens = hits.map(|hits| hits.into_iter().map(|hit| hit.and_then(token)).collect());
        tokens.map_err(|fault| self.tag_error(fault, "memcached tag_tokens", names))
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let tags = Tags::new(self.names(names), fresh, ttl);
        let work = |inner: Arc<Inner>| async move {
            inner.over(inner.link_in_turn(), Again::Never, |wire| tags.pin(wire)).await
        };
        let pinned = self.detached(work).await;
        pinned.map_err(|fault| self.tag_error(fault, "memcached pin_tags", names))
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let tags = Tags::new(self.names(names), fresh, ttl);
        let work = |inner: Arc<Inner>| async move {
            inner.over(inner.link_in_turn(), Again::Never, |wire| tags.rotate(wire, depth)).await
        };
        let rotated = self.detached(work).await;
        rotated.map_err(|fault| self.tag_error(fault, "memcached rotate_tags", names))
    }
}

impl MemcachedBackend {
    fn names(&self, names: &[Key]) -> Vec<Name> {
        names.iter().map(|name| self.name(name)).collect()
    }

    fn tag_error(&self, fault: Fault, operation: &'static str, names: &[Key]) -> Error {
        match names.first() {
            Some(name) => self.error(fault, operation, name),
            None => fault.into_error(operation, self.node()),
        }
    }
}

/// Tags and a fresh token for each.
struct Tags {
    names: Vec<Name>,
    fresh: Vec<TagToken>,
    ttl: Duration,
}

impl Tags {
    fn new(names: Vec<Name>, fresh: &[TagToken], ttl: Duration) -> Self {
        Self { names, fresh: fresh.to_vec(), ttl }
    }

    /// How long a new one lives; 0: for ever.
    fn seconds(&self, wire: &Wire) -> u32 {
        let is_beyond = self.ttl > Duration::from_secs(LONGEST.into());
        if is_beyond { 0 } else { seconds(self.ttl, wire.unix_now()) }
    }

    async fn pin(&self, wire: Arc<Wire>) -> Result<Vec<TagToken>, Fault> {
        let seconds = self.seconds(&wire);
        // In the order given, so that the last are looked at after all others.
        let mut commands = Vec::with_capacity(self.names.len() * 2);
        for (name, fresh) in self.names.iter().zip(&self.fresh) {
            commands.push(Command { name: name.clone(), verb: Verb::Add(record::tag(*fresh, seconds)) });
            commands.push(Command { name: name.clone(), verb: Verb::Read });
        }
        let mut replies = wire.ask_all(&commands).await?.into_iter();
        let (mut tokens, mut short, mut strays) = (Vec::new(), Vec::new(), Vec::new());
        while let (Some(added), Some(read)) = (replies.next(), replies.next()) {
            let at = tokens.len();
            let is_new = done(added)?.is_some();
            let found = hit(read)?;
            let token = found.as_ref().and_then(|(meta, bytes)| tag_in(meta, bytes));
            match &found {
                Some((meta, _)) if token.is_none() => strays.push((at, meta.cas)),
                Some((meta, _)) if !is_new && ends_before(meta, seconds) => short.push(at),
                _ => {}
            }
            tokens.push(token);
        }
        self.drop_strays(&wire, &strays).await?;
        self.prolong(&wire, &tokens, &short, seconds).await?;
        // One that is missing was evicted in between. Its fresh token is spent; the next one to ask puts another.
        tokens.into_iter().map(|token| token.ok_or(NO_TOKEN)).collect()
    }

    /// What is no token fits no entry. Gone, it is a token that is missing.
    async fn drop_strays(&self, wire: &Wire, strays: &[(usize, u64)]) -> Result<(), Fault> {
        let drop =
            |(at, cas): &(usize, u64)| Command { name: self.names[*at].clone(), verb: Verb::Delete(*cas) };
        let drops: Vec<Command> = strays.iter().map(drop).collect();
        wire.ask_all(&drops).await.map(|_| ())
    }

    /// Has the tokens at `short` live for so many seconds at least, unless they are others by now. By half as much
    /// more, so that this is seldom needed.
    async fn prolong(
        &self,
        wire: &Wire,
        tokens: &[Option<TagToken>],
        short: &[usize],
        seconds: u32,
    ) -> Result<(), Fault> {
        let names: Vec<Name> = short.iter().map(|at| self.names[*at].clone()).collect();
        let longer = seconds.saturating_add(seconds / 2).min(LONGEST);
        let decide = |n: usize, hit: Option<Hit>| {
            let Some((meta, bytes)) = hit else { return Step::Done(()) };
            match tag_in(&meta, &bytes) {
                Some(token) if Some(token) == tokens[short[n]] && ends_before(&meta, seconds) => {
                    Step::Try(Verb::Swap(meta.cas, record::tag(token, longer)), ())
                }
                _ => Step::Done(()),
            }
        };
        settle(wire, &names, Verb::Read, decide).await.map(|_| ())
    }

    async fn rotate(&self, wire: Arc<Wire>, depth: Depth) -> Result<(), Fault> {
        match depth {
            Depth::Remove => self.replace(&wire).await,
            // The first before all others.
            Depth::Expire => {
                let first = self.names.len().min(1);
                self.replace_second_halves(&wire, 0..first).await?;
                self.replace_second_halves(&wire, first..self.names.len()).await
            }
        }
    }

    /// One connection's commands are carried out in their order.
    async fn replace(&self, wire: &Wire) -> Result<(), Fault> {
        let seconds = self.seconds(wire);
        let set = |(name, fresh): (&Name, &TagToken)| Command {
            name: name.clone(),
            verb: Verb::Set(record::tag(*fresh, seconds)),
        };
        let sets: Vec<Command> = self.names.iter().zip(&self.fresh).map(set).collect();
        for reply in wire.ask_all(&sets).await? {
            done(reply)?.ok_or(Fault::Garbled("a tag token was not taken"))?;
        }
        Ok(())
    }

    async fn replace_second_halves(&self, wire: &Wire, some: std::ops::Range<usize>) -> Result<(), Fault> {
        let seconds = self.seconds(wire);
        let (names, fresh) = (&self.names[some.clone()], &self.fresh[some]);
        let decide = |at: usize, hit: Option<Hit>| {
            let fresh: TagToken = fresh[at];
            let Some((meta, bytes)) = hit else {
                return Step::Try(Verb::Add(record::tag(fresh, seconds)), ());
            };
            let item = match tag_in(&meta, &bytes) {
                // It keeps its first half, and its life.
                Some(token) => {
                    let left = meta.ttl.map_or(0, |left| left.max(1));
                    record::tag(TagToken { expired: fresh.expired, ..token }, left)
                }
                None => record::tag(fresh, seconds),
            };
            Step::Try(Verb::Swap(meta.cas, item), ())
        };
        settle(wire, names, Verb::Read, decide).await.map(|_| ())
    }
}

/// Whether an item has less than so many seconds left; 0: for ever.
fn ends_before(meta: &Meta, seconds: u32) -> bool {
    meta.ttl.is_some_and(|left| seconds == 0 || left < seconds)
}
