//! Who has which slots, as a node tells.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redis::{Cmd, Value};

use crate::RedisBackend;
use crate::config::Address;
use crate::fault::Fault;
use crate::link::{Again, Request};

/// Slots and their primaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    /// By the last slot of each range.
    ranges: BTreeMap<u16, (u16, Address)>,
}

impl Map {
    /// As `node`, which is at `address`, tells it.
    pub(crate) async fn read(node: &RedisBackend, address: &Address) -> Result<Self, Fault> {
        let mut ask = Cmd::new();
        ask.arg("CLUSTER").arg("SLOTS");
        let answer = node.link_aside().send(Request::One(&ask), Again::Once).await?;
        let Value::Array(ranges) = answer.value.extract_error()? else {
            return Err(Fault::Garbled("CLUSTER SLOTS answered no list"));
        };
        let mut map = Self::default();
        for range in ranges {
            let (slots, owner) =
                read_range(range, address).ok_or(Fault::Garbled("CLUSTER SLOTS answered no range"))?;
            map.ranges.insert(*slots.end(), (*slots.start(), owner));
        }
        Ok(map)
    }

    /// The primary of `slot`; `None` if nobody has it.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        let (_, (first, owner)) = self.ranges.range(slot..).next()?;
        (*first <= slot).then_some(owner)
    }

    /// Every primary that has slots, once.
    pub(crate) fn primaries(&self) -> Vec<Address> {
        let mut all: Vec<Address> = self.ranges.values().map(|(_, owner)| owner.clone()).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// `[first, last, [host, port, ...], ...]`, the primary first.
fn read_range(range: Value, asked: &Address) -> Option<(RangeInclusive<u16>, Address)> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let slots = number(parts.next()?)?..=number(parts.next()?)?;
    let Value::Array(primary) = parts.next()? else { return None };
    let mut primary = primary.into_iter();
    let host = match primary.next()? {
        Value::BulkString(host) => String::from_utf8(host).ok()?,
        _ => String::new(),
    };
    // A node that does not know its own name is where it was asked.
    let host = if host.is_empty() || host == "?" { asked.host.clone() } else { host };
    Some((slots, Address { host, port: number(primary.next()?)? }))
}

fn number(value: Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(number).ok(),
        _ => None,
    }
}

/// The slots that `node` says it has, and those on their way from or to it, in brackets.
pub(crate) async fn own_slots(node: &RedisBackend) -> Result<String, Fault> {
    let mut ask = Cmd::new();
    ask.arg("CLUSTER").arg("NODES");
    let answer = node.link_aside().send(Request::One(&ask), Again::Once).await?;
    let text = match answer.value.extract_error()? {
        Value::BulkString(text) => text,
        Value::VerbatimString { text, .. } => text.into_bytes(),
        _ => return Err(Fault::Garbled("CLUSTER NODES answered no text")),
    };
    let text = String::from_utf8_lossy(&text);
    // Only of itself a node tells what is on its way.
    let own = text.lines().find(|line| line.contains("myself"));
    Ok(own.unwrap_or_default().split_whitespace().skip(8).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let node = vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString("id".into())];
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(node)])
    }

    #[test]
    fn a_slot_has_the_owner_of_its_range_or_none() {
        let asked = Address { host: "asked".into(), port: 1 };
        let mut map = Map::default();
        for value in [range(0, 99, "", 7000), range(200, 300, "b", 7001)] {
            let (slots, owner) = read_range(value, &asked).unwrap();
            map.ranges.insert(*slots.end(), (*slots.start(), owner));
        }
        let owner = |slot| map.owner(slot).map(Address::to_string);
        assert_eq!(owner(0).as_deref(), Some("asked:7000"));
        assert_eq!(owner(99).as_deref(), Some("asked:7000"));
        assert_eq!(owner(100), None);
        assert_eq!(owner(200).as_deref(), Some("b:7001"));
        assert_eq!(owner(301), None);
        assert_eq!(map.primaries().len(), 2);
    }
}
