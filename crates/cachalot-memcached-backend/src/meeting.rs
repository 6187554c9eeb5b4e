//! What is asked of a server before anything else: who it is, what time it has, what it can keep.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::BytesMut;

use crate::codec::{Command, Parser, Reply};
use crate::fault::Fault;
use crate::stream::Stream;
use crate::wire::Wire;

/// What an item takes beside its payload: our header, the longest key, the server's own notes.
const BESIDE_PAYLOAD: usize = 512;
/// What servers keep that do not say, bytes.
const USUAL_ITEM: usize = 1 << 20;
/// What no server keeps more than, whatever it says: memcached's own limit, bytes.
const LARGEST_ITEM: usize = 1 << 30;

/// A server as it was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meeting {
    /// Which run of which server: its process and when that began.
    pub(crate) identity: (u64, u64),
    /// Its time, s.
    pub(crate) unix_now: u64,
    /// The longest payload that it keeps, and the caller wants, bytes.
    pub(crate) longest_payload: usize,
    /// The longest item that it keeps, bytes.
    pub(crate) longest_item: usize,
}

impl Meeting {
    /// Asks over a fresh connection.
    pub(crate) async fn hold(stream: &Stream, parser: &mut Parser, most: usize) -> Result<Self, Fault> {
        let broken = |error: std::io::Error| Fault::Broken(error.to_string());
        let mut question = BytesMut::new();
        Command::encode_greeting(&mut question);
        stream.write_all(&question).await.map_err(broken)?;
        let (mut input, mut said) = (BytesMut::new(), Said::default());
        loop {
            while let Some(reply) =
                parser.next(&mut input).map_err(|malformed| Fault::Garbled(malformed.0))?
            {
                match reply {
                    Reply::Stat(name, value) => said.note(&name, &value),
                    Reply::End => {}
                    Reply::Noop => return said.conclude(most),
                    _ => {
                        return Err(Fault::Unfit(
                            "the server is no memcached of 1.6 or later, or wants a password",
                        ));
                    }
                }
            }
            if stream.read(&mut input).await.map_err(broken)? == 0 {
                return Err(Fault::Broken(String::from("the server closed it")));
            }
        }
    }
}

/// The first version whose meta commands are written as ours.
const OLDEST: [u32; 3] = [1, 6, 10];

/// `1.6.18` and what may follow it; `None` for what is told otherwise, as by a proxy or a fork.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = text.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
        digits.parse().ok()
    });
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[derive(Default)]
struct Said {
    pid: Option<u64>,
    uptime: Option<u64>,
    time: Option<u64>,
    item_size_max: Option<u64>,
    is_without_cas: bool,
    is_too_old: bool,
}

impl Said {
    fn note(&mut self, name: &str, value: &str) {
        let number = value.parse().ok();
        match name {
            "pid" => self.pid = number,
            "uptime" => self.uptime = number,
            "time" => self.time = number,
            "item_size_max" => self.item_size_max = number,
            "version" => self.is_too_old = version(value).is_some_and(|version| version < OLDEST),
            "cas_enabled" => self.is_without_cas = value == "no",
            _ => {}
        }
    }

    fn conclude(&self, most: usize) -> Result<Meeting, Fault> {
        if self.is_too_old {
            return Err(Fault::Unfit("the server is older than memcached 1.6.10"));
        }
        if self.is_without_cas {
            return Err(Fault::Unfit("the server runs without CAS (-C), by which leases are kept"));
        }
        let (Some(pid), Some(uptime), Some(time)) = (self.pid, self.uptime, self.time) else {
            return Err(Fault::Unfit("the server does not say which one it is"));
        };
        let said = self.item_size_max.map(|size| usize::try_from(size).unwrap_or(LARGEST_ITEM));
        let item = said.unwrap_or(USUAL_ITEM).min(LARGEST_ITEM);
        Ok(Meeting {
            identity: (pid, time.saturating_sub(uptime)),
            unix_now: time,
            longest_payload: item.saturating_sub(BESIDE_PAYLOAD).min(most),
            longest_item: item,
        })
    }
}

/// Which run of a server is in use, and the connections to it. Two runs are never in use at a time: what one of them has
/// acknowledged, the other would not know.
#[derive(Default)]
pub(crate) struct Incarnation {
    /// How often another run was met than the one before.
    count: AtomicU64,
    met: Mutex<Met>,
}

#[derive(Default)]
struct Met {
    identity: Option<(u64, u64)>,
    wires: Vec<Weak<Wire>>,
}

impl Incarnation {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Notes who was met over a new connection, before anything is asked over it. If it is another run than the one
    /// before, all connections to that one end first. `start` is told how many runs came before.
    pub(crate) fn admit(&self, identity: (u64, u64), start: impl FnOnce(u64) -> Wire) -> Arc<Wire> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.identity.is_some_and(|known| known != identity) {
            self.count.fetch_add(1, Ordering::AcqRel);
            let others = met.wires.drain(..).filter_map(|wire| wire.upgrade());
            others.for_each(|wire| wire.end("the address leads to another server"));
        }
        met.identity = Some(identity);
        met.wires.retain(|wire| wire.upgrade().is_some_and(|wire| wire.is_alive()));
        let wire = Arc::new(start(self.count()));
        met.wires.push(Arc::downgrade(&wire));
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: &[(&str, &str)]) -> Said {
        let mut said = Said::default();
        fields.iter().for_each(|(name, value)| said.note(name, value));
        said
    }

    #[test]
    fn a_server_is_known_by_its_process_and_its_start() {
        let usual = [
            ("pid", "7"),
            ("uptime", "5"),
            ("time", "105"),
            ("item_size_max", "2048"),
            ("cas_enabled", "yes"),
        ];
        let meeting = said(&usual).conclude(usize::MAX).unwrap();
        assert_eq!(
            meeting,
            Meeting { identity: (7, 100), unix_now: 105, longest_payload: 1536, longest_item: 2048 }
        );
        assert_eq!(said(&usual).conclude(10).unwrap().longest_payload, 10);
        for lie in ["1099511627776", "18446744073709551615"] {
            let lies = [&usual[..], &[("item_size_max", lie)]].concat();
            let meeting = said(&lies).conclude(usize::MAX).unwrap();
            assert_eq!(meeting.longest_item, LARGEST_ITEM);
        }
        assert!(said(&usual[..2]).conclude(10).is_err(), "it does not say the time");
        for (version, is_fit) in
            [("1.5.22", false), ("1.6.9", false), ("1.6.10", true), ("1.6.18_1", true), ("proxy", true)]
        {
            let fields = [&usual[..], &[("version", version)]].concat();
            assert_eq!(said(&fields).conclude(10).is_ok(), is_fit, "{version}");
        }
        let without = [&usual[..], &[("cas_enabled", "no")]].concat();
        assert!(said(&without).conclude(10).is_err(), "no leases without CAS");
    }
}
