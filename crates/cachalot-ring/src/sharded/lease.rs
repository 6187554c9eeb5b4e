//! Leases and holds.
//!
//! A token counts at the nodes that gave it, and each of them compares it. So nothing has to be remembered here: a put
//! that comes to another node, because nodes have come or gone or been ejected meanwhile, is refused there.

use std::boxed::Box;
use std::time::Duration;
use std::vec::Vec;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::{
    Backend, Held, Key, LeaseBackend, LeaseReply, Nonce, Put, PutReply, Record, Result, Token,
};

use super::Sharded;
use super::routes::{Copies, all_of, nobody};
use super::topology::{Few, View};

#[async_trait]
impl<B: Backend> LeaseBackend for Sharded<B> {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let view = self.view();
        let copies = self.copies(&view, key);
        let mut answer = None;
        let mut others = copies.nodes.iter();
        // The first that answers decides who loads.
        for node in others.by_ref() {
            let asked = view.node(node).get_or_lease(key, token, term, refuse).await;
            let has_answered = asked.is_ok();
            answer = Some((node, asked));
            if has_answered {
                break;
            }
        }
        let Some((first, answer)) = answer else { return Err(self.away(&view, key)) };
        let others = others.fold(Few::default(), |others, node| others.and(node));
        match answer? {
            LeaseReply::Lease { stale } if others.len() > 0 => {
                let asked =
                    self.at_each(&view, &others, |_, node| node.get_or_lease(key, token, term, refuse));
                let asked = asked.await;
                let others = others.iter().zip(asked).collect();
                let mine = Mine { token, refuse, first };
                Ok(self.with_others(&view, key, mine, stale, others).await)
            }
            answer => Ok(answer),
        }
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let view = self.view();
        let copies = self.copies(&view, key);
        let put_for = |number| self.put_for(&copies, number, &put);
        let asked =
            self.at_each(&view, &copies.nodes, |number, node| node.put_leased(key, token, put_for(number)));
        let mut answer = best_put(asked.await);
        for node in self.elsewhere(&view, key, &copies) {
            if matches!(answer, Some(Ok(PutReply::Stored))) {
                break;
            }
            let elsewhere = view.node(node).put_leased(key, token, put_for(node)).await;
            answer = best_put(answer.into_iter().chain([elsewhere]));
        }
        answer.unwrap_or(Ok(PutReply::Lost))
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        let view = self.view();
        let copies = self.copies(&view, key);
        let mut asked = self.at_each(&view, &copies.nodes, |_, node| node.release(key, token)).await;
        for node in self.elsewhere(&view, key, &copies) {
            if asked.iter().any(|it| matches!(it, Ok(true))) {
                break;
            }
            asked.push(view.node(node).release(key, token).await);
        }
        let was_outstanding = asked.iter().any(|it| matches!(it, Ok(true)));
        if was_outstanding { Ok(true) } else { asked.into_iter().find(Result::is_err).unwrap_or(Ok(false)) }
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        let view = self.view();
        let takers = self.takers(&view, key);
        // One that is away would let this end in an error anyway: no other one is kept from its readers for that.
        if let Some(away) = takers.iter().find(|node| !view.node(*node).is_live()) {
            return Err(view.node(away).away("hold"));
        }
        let held = self.at_each(&view, &takers, |_, node| node.hold(key, token, term)).await;
        let is_split = held.iter().any(|it| matches!(it, Ok(Held::Overlap)));
        if is_split && takers.len() > 1 {
            // Poisoned here and granted there is poisoned everywhere, or this writer could store there.
            let granted = takers.iter().zip(&held).filter(|(_, it)| matches!(it, Ok(Held::Held)));
            let granted = granted.fold(Few::default(), |granted, (node, _)| granted.and(node));
            let other = Token::draw(&self.effects.entropy);
            let poisoned = self.at_each(&view, &granted, |_, node| node.hold(key, other, term)).await;
            poisoned.into_iter().collect::<Result<Vec<Held>>>()?;
        }
        all_of(held, |held| match held {
            Held::Overlap => 1,
            Held::Held => 0,
        })
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let view = self.view();
        let (takers, copies) = (self.takers(&view, key), self.copies(&view, key));
        let nothing = Put { payload: Bytes::new(), ttl: Duration::ZERO, ..put };
        let asked = self.at_each(&view, &takers, |number, node| {
            let put = match copies.nodes.has(number) {
                true => self.put_for(&copies, number, &put),
                false => nothing.clone(),
            };
            node.put_held(key, token, put)
        });
        let mut answer = None;
        for (number, asked) in takers.iter().zip(asked.await) {
            // Whoever is no copy has its hold ended, and that has to be sure as well.
            let asked = asked?;
            if copies.nodes.has(number) {
                answer = Some(match answer {
                    Some(before) if before != PutReply::Stored => before,
                    _ => asked,
                });
            }
        }
        Ok(answer.unwrap_or(PutReply::Lost))
    }
}

impl<B: Backend> Sharded<B> {
    /// The first copy gave the lease. If another one has a value, that is served and the leases are given back.
    ///
    /// Those that gave theirs because they have what is refused lose it: copies of which each has another value could
    /// else be refused by turns for ever, and none be replaced.
    async fn with_others(
        &self,
        view: &View<B>,
        key: &Key,
        mine: Mine,
        mut stale: Option<Record>,
        asked: Vec<(usize, Result<LeaseReply>)>,
    ) -> LeaseReply {
        let mut granted = Few::default().and(mine.first);
        let mut hit = None;
        for (node, reply) in asked {
            match reply {
                Ok(LeaseReply::Hit(record)) => hit = hit.or(Some(record)),
                Ok(LeaseReply::Lease { stale: other }) => {
                    granted.push(node);
                    stale = stale.or(other);
                }
                Ok(LeaseReply::Busy { stale: other, .. }) => stale = stale.or(other),
                // It gets no copy. A lease that it has given all the same is given back as well.
                Err(_) if mine.refuse.is_none() => granted.push(node),
                Err(_) => {}
            }
        }
        let Some(record) = hit else { return LeaseReply::Lease { stale } };
        // What fails here ends with its term.
        match mine.refuse {
            Some(_) => drop(self.at_each(view, &granted, |_, node| node.remove(key)).await),
            None => drop(self.at_each(view, &granted, |_, node| node.release(key, mine.token)).await),
        }
        LeaseReply::Hit(record)
    }

    /// Live nodes that are no copies now, and may have been when a lease was given.
    fn elsewhere(&self, view: &View<B>, key: &Key, copies: &Copies) -> Vec<usize> {
        let takers = self.takers(view, key);
        let is_other = |node: &usize| !copies.nodes.has(*node) && view.node(*node).is_live();
        takers.iter().filter(is_other).collect()
    }

    fn away(&self, view: &View<B>, key: &Key) -> cachalot_core::Error {
        let owner = view.owners(key.as_bytes(), 1).iter().next();
        let error = owner.map_or_else(|| nobody("lease"), |owner| view.node(owner).away("lease"));
        error.key(key.as_bytes())
    }
}

/// What a caller asks the first copy for, and has got.
struct Mine {
    token: Token,
    refuse: Option<Nonce>,
    first: usize,
}

/// Stored anywhere is stored; else the first answer, or the first error if there is none.
fn best_put(answers: impl IntoIterator<Item = Result<PutReply>>) -> Option<Result<PutReply>> {
    answers.into_iter().reduce(|best, answer| match (&best, &answer) {
        (_, Ok(PutReply::Stored)) | (Err(_), Ok(_)) => answer,
        _ => best,
    })
}
