//! The backend: leases, holds and puts.
//!
//! | what is there | who asks for a lease |
//! |---|---|
//! | nothing | wins an empty item, put by the server (`mg N`): the right is its CAS |
//! | a value that was expired | wins it from the server (`W`): the right is its CAS |
//! | a value that it refuses | writes its token beside the value, by CAS: the right stands in the record too |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Held, Holder, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Record, Result, Token,
};

use tokio::time::sleep;

use crate::MemcachedBackend;
use crate::backend::{Again, Inner, SHORTEST};
use crate::codec::{self, Command, Item, Meta, Name, Verb, seconds};
use crate::fault::Fault;
use crate::grants::{Grant, Right};
use crate::record::{self, Found, Kind, Value};
use crate::settle::{Step, done, hit, settle_one};
use crate::wire::{Hit, Wire};

#[async_trait]
impl LeaseBackend for MemcachedBackend {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let name = self.name(key);
        let work = |inner: Arc<Inner>| async move {
            let asked = Asked { inner: &inner, name: &name, token, term, refuse };
            inner.over(inner.link_in_turn(), Again::Never, |wire| asked.over(wire)).await
        };
        let reply = self.detached(work).await;
        reply.map_err(|fault| self.error(fault, "memcached get_or_lease", key))
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let name = self.name(key);
        let work = |inner: Arc<Inner>| async move { inner.put_leased(&name, token, &put).await };
        self.detached(work).await.map_err(|fault| self.error(fault, "memcached put_leased", key))
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        let name = self.name(key);
        let work = |inner: Arc<Inner>| async move { inner.give_up(&name, token, GiveUp::Right).await };
        self.detached(work).await.map_err(|fault| self.error(fault, "memcached release", key))
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        let name = self.name(key);
        let work = |inner: Arc<Inner>| async move { inner.hold(&name, token, term).await };
        self.detached(work).await.map_err(|fault| self.error(fault, "memcached hold", key))
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let name = self.name(key);
        let work = |inner: Arc<Inner>| async move { inner.put_held(&name, token, &put).await };
        self.detached(work).await.map_err(|fault| self.error(fault, "memcached put_held", key))
    }
}

/// How long a reader may take to hand back what it has won.
const BREATH: Duration = Duration::from_millis(5);
/// How often another winner is met before the caller is told to come again.
const MEETINGS: u32 = 8;

/// A call of `get_or_lease`.
#[derive(Clone, Copy)]
struct Asked<'a> {
    inner: &'a Inner,
    name: &'a Name,
    token: Token,
    term: Duration,
    refuse: Option<Nonce>,
}

impl Asked<'_> {
    async fn over(self, wire: Arc<Wire>) -> Result<LeaseReply, Fault> {
        let term = codec::term(self.term, wire.unix_now());
        let mut met = 0;
        loop {
            let (meta, bytes) = self.look(&wire, term).await?;
            let found = Found::read(&meta, bytes);
            let busy = |holder| Ok(busy(record::left(&meta), holder, None));
            match found {
                Found::Stub if meta.won => {
                    self.note(&wire, meta.cas, Right::Stub);
                    return Ok(LeaseReply::Lease { stale: None });
                }
                Found::Stub if meta.taken => return busy(Holder::Reader),
                Found::Lease(_) => return busy(Holder::Reader),
                Found::Hold(_) | Found::Poison => return busy(Holder::Writer),
                Found::Value(value) if value.invalidated && !meta.won => {
                    if let Some(reply) = self.wait_or_mark(&wire, meta.cas, value.record(), &mut met).await? {
                        return Ok(reply);
                    }
                }
                Found::Value(value) => {
                    if let Some(reply) = self.value(&wire, meta, value, term).await? {
                        return Ok(reply);
                    }
                }
                Found::Stub | Found::Other => {
                    if let Some(reply) =
                        self.write(&wire, meta.cas, record::lease(self.token, term), None).await?
                    {
                        return Ok(reply);
                    }
                }
            }
        }
    }

    async fn look(self, wire: &Wire, term: u32) -> Result<Hit, Fault> {
        let command = Command { name: self.name.clone(), verb: Verb::Lease(term) };
        hit(wire.ask(command).await?)?.ok_or(Fault::Garbled("nothing, where it should have been put"))
    }

    /// `None`: somebody came in between.
    async fn value(
        self,
        wire: &Arc<Wire>,
        meta: Meta,
        value: Value,
        term: u32,
    ) -> Result<Option<LeaseReply>, Fault> {
        let stale = value.record();
        let must_outlive_it = value.left <= term;
        if !value.invalidated {
            if Some(value.nonce) != self.refuse {
                return Ok(Some(LeaseReply::Hit(stale)));
            }
            if let Some((_, remaining @ 1..)) = value.lease {
                return Ok(Some(busy(remaining, Holder::Reader, Some(stale))));
            }
            let item = if must_outlive_it {
                record::lease(self.token, term)
            } else {
                value.with_lease(Some((self.token, term)))
            };
            return self.write(wire, meta.cas, item, Some(stale)).await;
        }
        if must_outlive_it {
            return self.write(wire, meta.cas, record::lease(self.token, term), Some(stale)).await;
        }
        self.note(wire, meta.cas, Right::Stale);
        self.inner.watch.won(self.name, (wire.run(), meta.cas), self.term, self.inner.now());
        Ok(Some(LeaseReply::Lease { stale: Some(stale) }))
    }

    /// Somebody has won what was expired. Perhaps only a reader that hands it back at once, so after a breath it is
    /// looked at again. If the winner is dead, the value is marked anew, for the next one to win.
    async fn wait_or_mark(
        self,
        wire: &Wire,
        cas: u64,
        stale: Record,
        met: &mut u32,
    ) -> Result<Option<LeaseReply>, Fault> {
        let busy = |remaining| LeaseReply::Busy { remaining, holder: Holder::Reader, stale: Some(stale) };
        match self.inner.watch.remaining(self.name, (wire.run(), cas), self.term, self.inner.now()) {
            None if *met < MEETINGS => {
                *met += 1;
                sleep(BREATH).await;
                Ok(None)
            }
            None => Ok(Some(busy(BREATH * MEETINGS))),
            Some(Duration::ZERO) => {
                let command = Command { name: self.name.clone(), verb: Verb::Stale(cas, None) };
                done(wire.ask(command).await?).map(|_| None)
            }
            Some(remaining) => Ok(Some(busy(remaining))),
        }
    }

    /// Takes the lease by writing `item` over what has this CAS. `None`: somebody came in between.
    async fn write(
        self,
        wire: &Arc<Wire>,
        cas: u64,
        item: Item,
        stale: Option<Record>,
    ) -> Result<Option<LeaseReply>, Fault> {
        let command = Command { name: self.name.clone(), verb: Verb::Swap(cas, item) };
        let Some(cas) = done(wire.ask(command).await?)? else { return Ok(None) };
        self.note(wire, cas, Right::Written);
        Ok(Some(LeaseReply::Lease { stale }))
    }

    fn note(self, wire: &Arc<Wire>, cas: u64, right: Right) {
        self.inner.grant(self.token, self.name, wire, cas, right, self.term);
    }
}

/// Of what has so many seconds left, one more than its term is told.
fn busy(left: u32, holder: Holder, stale: Option<Record>) -> LeaseReply {
    let remaining = Duration::from_secs(left.saturating_sub(1).max(1).into());
    LeaseReply::Busy { remaining, holder, stale }
}

/// What is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GiveUp {
    /// The right; a value stays as it was.
    Right,
    /// A value too.
    All,
}

impl Inner {
    fn grant(&self, token: Token, name: &Name, wire: &Arc<Wire>, cas: u64, right: Right, term: Duration) {
        let grant = Grant { name: name.clone(), wire: Arc::downgrade(wire), cas, right };
        self.grants.add(token, grant, term, self.now());
    }

    fn lease(&self, token: Token, name: &Name) -> Option<(Arc<Wire>, Grant)> {
        self.grants.find(token, name).filter(|(_, grant)| grant.right != Right::Held)
    }

    async fn put_leased(&self, name: &Name, token: Token, put: &Put) -> Result<PutReply, Fault> {
        if put.ttl < SHORTEST {
            self.give_up(name, token, GiveUp::Right).await?;
            return Ok(PutReply::Lost);
        }
        let stored =
            self.over(self.link_in_turn(), Again::Never, |wire| self.store(wire, name, token, put)).await;
        if let Err(Fault::TooLarge { .. }) = stored {
            // Whoever put it in vain knows that what was there is outdated.
            let _ = self.give_up(name, token, GiveUp::All).await;
        }
        stored
    }

    async fn store(&self, wire: Arc<Wire>, name: &Name, token: Token, put: &Put) -> Result<PutReply, Fault> {
        if let Some((wire, grant)) = self.lease(token, name) {
            let swap = Verb::Swap(grant.cas, new_value(put, &wire)?);
            let reply = wire.ask(Command { name: name.clone(), verb: swap }).await?;
            let is_stored = done(reply)?.is_some();
            if is_stored {
                self.grants.forget(token);
                return Ok(PutReply::Stored);
            }
        }
        // A right that stands in the record is good on every connection, and after a touch.
        let value = new_value(put, &wire)?;
        let decide = |hit: Option<Hit>| {
            let Some((meta, bytes)) = hit else { return Step::Done(PutReply::Absent) };
            match is_leased_to(token, &Found::read(&meta, bytes)) {
                true => Step::Try(Verb::Swap(meta.cas, value.clone()), PutReply::Stored),
                false => Step::Done(PutReply::Lost),
            }
        };
        let reply = settle_one(&wire, name, Verb::Read, decide).await?.outcome;
        self.grants.forget(token);
        Ok(reply)
    }

    /// Ends a lease. Whether `token` was outstanding.
    async fn give_up(&self, name: &Name, token: Token, what: GiveUp) -> Result<bool, Fault> {
        self.over(self.link_in_turn(), Again::Once, |wire| self.give_up_over(wire, name, token, what)).await
    }

    async fn give_up_over(
        &self,
        wire: Arc<Wire>,
        name: &Name,
        token: Token,
        what: GiveUp,
    ) -> Result<bool, Fault> {
        if let Some((wire, grant)) = self.lease(token, name) {
            let verb = match (grant.right, what) {
                (Right::Stub, _) | (_, GiveUp::All) => Some(Verb::Delete(grant.cas)),
                (Right::Stale, GiveUp::Right) => Some(Verb::Stale(grant.cas, None)),
                // The value is to be written again, without the token.
                (Right::Written | Right::Held, GiveUp::Right) => None,
            };
            if let Some(verb) = verb
                && done(wire.ask(Command { name: name.clone(), verb }).await?)?.is_some()
            {
                self.grants.forget(token);
                return Ok(true);
            }
        }
        let decide = |hit: Option<Hit>| {
            let Some((meta, bytes)) = hit else { return Step::Done(false) };
            let found = Found::read(&meta, bytes);
            match found {
                _ if !is_leased_to(token, &found) => Step::Done(false),
                Found::Value(value) if what == GiveUp::Right => {
                    Step::Try(Verb::Swap(meta.cas, value.with_lease(None)), true)
                }
                _ => Step::Try(Verb::Delete(meta.cas), true),
            }
        };
        let given_up = settle_one(&wire, name, Verb::Read, decide).await?.outcome;
        self.grants.forget(token);
        Ok(given_up)
    }

    async fn hold(&self, name: &Name, token: Token, term: Duration) -> Result<Held, Fault> {
        let hold = |wire: Arc<Wire>| async move {
            let seconds = codec::term(term, wire.unix_now());
            let decide = |hit: Option<Hit>| {
                let Some((meta, _)) = hit else {
                    return Step::Try(Verb::Add(record::hold(token, seconds)), Held::Held);
                };
                if let Kind::Hold | Kind::Poison = Kind::of(&meta) {
                    let later = record::left(&meta).max(seconds);
                    return Step::Try(Verb::Swap(meta.cas, record::poison(later)), Held::Overlap);
                }
                Step::Try(Verb::Swap(meta.cas, record::hold(token, seconds)), Held::Held)
            };
            let settled = settle_one(&wire, name, Verb::Look, decide).await?;
            if settled.outcome == Held::Held {
                self.grant(token, name, &wire, settled.cas, Right::Held, term);
            }
            Ok(settled.outcome)
        };
        self.over(self.link_in_turn(), Again::Never, hold).await
    }

    async fn put_held(&self, name: &Name, token: Token, put: &Put) -> Result<PutReply, Fault> {
        let keep = |wire: Arc<Wire>| self.store_held(wire, name, token, Some(put));
        let stored = match put.ttl < SHORTEST {
            true => Err(None),
            false => self.over(self.link_in_turn(), Again::Never, keep).await.map_err(Some),
        };
        match stored {
            Err(None) => self.end_hold(name, token).await,
            Err(Some(fault @ Fault::TooLarge { .. })) => {
                // Readers need not wait for the hold's end.
                let _ = self.end_hold(name, token).await;
                Err(fault)
            }
            Err(Some(fault)) => Err(fault),
            Ok(reply) => Ok(reply),
        }
    }

    async fn end_hold(&self, name: &Name, token: Token) -> Result<PutReply, Fault> {
        let end = |wire: Arc<Wire>| self.store_held(wire, name, token, None);
        self.over(self.link_in_turn(), Again::Never, end).await
    }

    /// Ends a hold by storing `put`, or nothing.
    async fn store_held(
        &self,
        wire: Arc<Wire>,
        name: &Name,
        token: Token,
        put: Option<&Put>,
    ) -> Result<PutReply, Fault> {
        if let Some(put) = put
            && let Some((wire, grant)) =
                self.grants.find(token, name).filter(|(_, grant)| grant.right == Right::Held)
        {
            let swap = Verb::Swap(grant.cas, new_value(put, &wire)?);
            if done(wire.ask(Command { name: name.clone(), verb: swap }).await?)?.is_some() {
                self.grants.forget(token);
                return Ok(PutReply::Stored);
            }
        }
        let value = put.map(|put| new_value(put, &wire)).transpose()?;
        let decide = |hit: Option<Hit>| {
            let Some((meta, bytes)) = hit else { return Step::Done(PutReply::Absent) };
            let swap = |item| Verb::Swap(meta.cas, item);
            match (Found::read(&meta, bytes), &value) {
                (Found::Hold(by), Some(value)) if by == token => {
                    Step::Try(swap(value.clone()), PutReply::Stored)
                }
                // This writer may have changed the source under the other's hold.
                (Found::Hold(by), _) if by != token => {
                    Step::Try(swap(record::poison(record::left(&meta).max(1))), PutReply::Lost)
                }
                (Found::Poison, _) => Step::Done(PutReply::Lost),
                _ => Step::Try(Verb::Delete(meta.cas), PutReply::Lost),
            }
        };
        let reply = settle_one(&wire, name, Verb::Read, decide).await?.outcome;
        self.grants.forget(token);
        Ok(reply)
    }
}

fn is_leased_to(token: Token, found: &Found) -> bool {
    match found {
        Found::Value(value) => value.is_leased_to(token),
        Found::Lease(by) => *by == token,
        _ => false,
    }
}

/// Refuses what is too large, before anything is sent.
fn new_value(put: &Put, wire: &Wire) -> Result<Item, Fault> {
    let (size, most) = (put.payload.len(), wire.longest_payload());
    if size > most {
        return Err(Fault::TooLarge { size, most });
    }
    Ok(record::value(put.nonce, put.payload.clone(), seconds(put.ttl, wire.unix_now())))
}
