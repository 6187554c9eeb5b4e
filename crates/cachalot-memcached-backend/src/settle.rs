//! Changes in two steps, repeated until nobody came in between: what is there is looked at, and changed by its CAS.
//! Both on one connection, since the next server counts CAS anew.

use bytes::Bytes;

use crate::codec::{Command, Name, Reply, Verb};
use crate::fault::Fault;
use crate::wire::{Hit, Wire, giving_back};

/// What is to be done about an item.
pub(crate) enum Step<R> {
    /// Nothing.
    Done(R),
    /// This; if somebody came in between, all is looked at again.
    Try(Verb, R),
}

/// What became of an item, and its CAS if something was stored.
pub(crate) struct Settled<R> {
    pub(crate) outcome: R,
    pub(crate) cas: u64,
}

/// Looks at each of `names` and does what `decide` says, which is told the place of the name; all of them in two
/// round trips, if nobody comes in between. Ends by the deadline of who calls, at the latest.
pub(crate) async fn settle<R>(
    wire: &Wire,
    names: &[Name],
    look: Verb,
    decide: impl Fn(usize, Option<Hit>) -> Step<R> + Send,
) -> Result<Vec<R>, Fault> {
    let settled = settle_with_cas(wire, names, look, decide).await?;
    Ok(settled.into_iter().map(|settled| settled.outcome).collect())
}

/// [`settle`] for one.
pub(crate) async fn settle_one<R>(
    wire: &Wire,
    name: &Name,
    look: Verb,
    decide: impl Fn(Option<Hit>) -> Step<R> + Send,
) -> Result<Settled<R>, Fault> {
    let mut settled =
        settle_with_cas(wire, std::slice::from_ref(name), look, move |_, hit| decide(hit)).await?;
    settled.pop().ok_or(Fault::Garbled("a reply is missing"))
}

async fn settle_with_cas<R>(
    wire: &Wire,
    names: &[Name],
    look: Verb,
    decide: impl Fn(usize, Option<Hit>) -> Step<R> + Send,
) -> Result<Vec<Settled<R>>, Fault> {
    let mut settled: Vec<Option<Settled<R>>> = names.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..names.len()).collect();
    while !open.is_empty() {
        let command = |at: &usize| Command { name: names[*at].clone(), verb: look.clone() };
        let looks: Vec<Command> = open.iter().map(command).collect();
        let (mut tries, mut tried, mut backs) = (Vec::new(), Vec::new(), Vec::new());
        for (at, reply) in open.drain(..).zip(wire.ask_all(&looks).await?) {
            let hit = hit(reply)?;
            let won = hit.as_ref().map(|(meta, _)| *meta).filter(|meta| meta.won);
            match decide(at, hit) {
                Step::Done(outcome) => {
                    // A look at a stale item may win it.
                    if let Some(meta) = won {
                        backs.push(Command { name: names[at].clone(), verb: giving_back(&meta) });
                    }
                    settled[at] = Some(Settled { outcome, cas: 0 });
                }
                Step::Try(verb, outcome) => {
                    tries.push(Command { name: names[at].clone(), verb });
                    tried.push((at, outcome));
                }
            }
        }
        tries.append(&mut backs);
        for ((at, outcome), reply) in tried.into_iter().zip(wire.ask_all(&tries).await?) {
            match done(reply)? {
                Some(cas) => settled[at] = Some(Settled { outcome, cas }),
                None => open.push(at),
            }
        }
    }
    Ok(settled.into_iter().flatten().collect())
}

/// What a look or a read found.
pub(crate) fn hit(reply: Reply) -> Result<Option<Hit>, Fault> {
    match reply {
        Reply::Value(meta, bytes) => Ok(Some((meta, bytes))),
        Reply::Done(meta) => Ok(Some((meta, Bytes::new()))),
        Reply::Missing => Ok(None),
        _ => Err(Fault::Garbled("a read was answered by something else")),
    }
}

/// The CAS after a change that was done; `None` if somebody came in between.
pub(crate) fn done(reply: Reply) -> Result<Option<u64>, Fault> {
    match reply {
        Reply::Done(meta) => Ok(Some(meta.cas)),
        Reply::NotFound | Reply::NotStored | Reply::Exists => Ok(None),
        Reply::Error(said) => Err(Fault::refused(&said, 0, 0)),
        _ => Err(Fault::Garbled("a change was answered by something else")),
    }
}
