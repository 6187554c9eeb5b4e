//! Removing by a pattern from every primary, whatever slots move meanwhile.
//!
//! A key that is moved from a node that has yet to be walked over to one that has been is seen by neither walk. So
//! what every primary says of its slots is read before and after, those on their way included. If it is the same and
//! none are on their way, nothing was moved. If some are, all of them may have been on their way throughout, and a
//! key may have been moved once: then a second walk finds it, where the first one would have found it before.
//!
//! Slots that move during each of [`WALKS`] walks are an error, so that a sweep ends.

use std::collections::BTreeMap;
use std::time::Duration;

use cachalot_core::{KeyPattern, Retry, SweepCursor, Swept, mutant};
use sha2::{Digest, Sha256};

use super::map::{Map, own_slots};
use super::nodes::Nodes;
use super::slot::slot;
use crate::RedisBackend;
use crate::config::Address;
use crate::fault::Fault;
use crate::link::Again;
use crate::scan::{self, Place};
use crate::script;
use crate::sweep::{KEYS_PER_SCRIPT, found};

/// How often a sweep goes over all primaries at most.
const WALKS: u32 = 4;
/// When another sweep may find the slots at rest.
const REST: Duration = Duration::from_secs(1);

/// One part of a sweep.
pub(super) async fn sweep(nodes: &Nodes, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept, Fault> {
    let walk = match Walk::read(from)? {
        Some(walk) => walk,
        None => Walk::begin(Shape::look(nodes).await?, 1, false)?,
    };
    let node = nodes.backend(walk.at()?)?;
    let link = node.link_aside();
    let (names, next) = found(link, nodes.key_prefix(), pattern, walk.place).await?;
    let removed = remove(nodes, &node, names).await?;
    let next = match next {
        Some(place) => Some(Walk { place, ..walk }),
        None => walk.after_this_node(nodes).await?,
    };
    Ok(Swept { removed, next: next.map(|walk| walk.write()) })
}

/// Who says that he has which slots.
struct Shape {
    primaries: Vec<Address>,
    /// Of all that they say.
    sum: String,
    /// Whether slots are on their way.
    is_moving: bool,
}

impl Shape {
    async fn look(nodes: &Nodes) -> Result<Self, Fault> {
        let mut primaries = nodes.look_around().await?.primaries();
        let (mut said, mut is_moving) = (BTreeMap::new(), false);
        // Whoever has just got his first slots may be known only to the one he got them from.
        while let Some(at) = primaries.iter().position(|address| !said.contains_key(address)) {
            let address = primaries[at].clone();
            let node = nodes.backend(&address)?;
            let own = own_slots(&node).await?;
            is_moving |= own.contains('[');
            for other in Map::read(&node, &address).await?.primaries() {
                if !primaries.contains(&other) {
                    primaries.push(other);
                }
            }
            said.insert(address, own);
        }
        let mut hash = Sha256::new();
        for (address, own) in &said {
            hash.update(format!("{address} {own}\n"));
        }
        let sum = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { primaries: said.into_keys().collect(), sum, is_moving })
    }
}

/// Where a sweep is.
struct Walk {
    /// What the primaries said when this walk began.
    sum: String,
    /// The how-manieth of its sweep, from 1.
    nth: u32,
    /// Whether they said the same when one before it began.
    is_second: bool,
    /// The primaries that are left, the one that is walked over first.
    left: Vec<Address>,
    place: Place,
}

impl Walk {
    fn begin(shape: Shape, nth: u32, is_second: bool) -> Result<Self, Fault> {
        let walk = Self { sum: shape.sum, nth, is_second, left: shape.primaries, place: Place::START };
        walk.at()?;
        Ok(walk)
    }

    fn at(&self) -> Result<&Address, Fault> {
        let none = || Fault::Broken(String::from("no node of the cluster has slots"));
        self.left.first().ok_or_else(none)
    }

    /// The next primary, or another walk, or the end.
    async fn after_this_node(mut self, nodes: &Nodes) -> Result<Option<Self>, Fault> {
        self.left.remove(0);
        if !self.left.is_empty() {
            return Ok(Some(Self { place: Place::START, ..self }));
        }
        let shape = Shape::look(nodes).await?;
        let is_same = shape.sum == self.sum;
        if is_same && (!shape.is_moving || self.is_second) || mutant!(SweepsAClusterOnce) {
            return Ok(None);
        }
        if self.nth >= WALKS {
            let text = String::from("the cluster's slots moved during every walk of the sweep");
            return Err(Fault::Refused { text, retry: Retry::After(REST) });
        }
        Self::begin(shape, self.nth + 1, is_same).map(Some)
    }

    fn read(cursor: &SweepCursor) -> Result<Option<Self>, Fault> {
        if cursor.as_bytes().is_empty() {
            return Ok(None);
        }
        let walk = std::str::from_utf8(cursor.as_bytes()).ok().and_then(|text| {
            let mut words = text.splitn(5, ' ');
            let (sum, nth) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            let (is_second, left) = (words.next()? == "again", words.next()?);
            let left = left.split(',').map(Address::read).collect::<Option<_>>()?;
            let place = Place::read(&SweepCursor::new(words.next()?.to_owned())).ok()?;
            Some(Self { sum, nth, is_second, left, place })
        });
        walk.map(Some).ok_or(Fault::Garbled("the cursor is not of this backend"))
    }

    fn write(&self) -> SweepCursor {
        let (since, place) = (if self.is_second { "again" } else { "anew" }, self.place.write());
        let place = String::from_utf8_lossy(place.as_bytes()).into_owned();
        let left: Vec<String> = self.left.iter().map(Address::to_string).collect();
        SweepCursor::new(format!("{} {} {since} {} {place}", self.sum, self.nth, left.join(",")))
    }
}

/// Removes what is called `names` on `node`, each script of one slot; one by one what is on its way.
async fn remove(nodes: &Nodes, node: &RedisBackend, names: Vec<Vec<u8>>) -> Result<u64, Fault> {
    let mut by_slot: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    for name in names {
        by_slot.entry(slot(&name)).or_default().push(name);
    }
    let chunks: Vec<(u16, &[Vec<u8>])> = by_slot
        .iter()
        .flat_map(|(slot, names)| names.chunks(KEYS_PER_SCRIPT).map(move |chunk| (*slot, chunk)))
        .collect();
    let command = |by, chunk: &(u16, &[Vec<u8>])| script::SWEEP.command(by, chunk.1, &[]);
    let mut removed = 0;
    for (chunk, outcome) in chunks.iter().zip(scan::try_each(node.link_aside(), &chunks, command).await?) {
        match outcome {
            Ok(mut reply) => removed += reply.number(),
            Err(Fault::Moved | Fault::Ask { .. } | Fault::Refused { .. }) => {
                for name in chunk.1 {
                    removed += u64::from(remove_one(nodes, chunk.0, name).await?);
                }
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(removed)
}

async fn remove_one(nodes: &Nodes, slot: u16, name: &[u8]) -> Result<bool, Fault> {
    let remove = |node: RedisBackend| async move {
        let reply = node.link_aside().run(&script::REMOVE, name, &[], Again::Once).await?;
        Ok(reply.status != b"NONE")
    };
    nodes.route_slot(slot, remove).await
}
