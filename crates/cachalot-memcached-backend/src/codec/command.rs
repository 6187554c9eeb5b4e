//! Commands as bytes.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

use super::life::argument;
use super::name::Name;

/// What is asked about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Of what.
    pub name: Name,
    /// What.
    pub verb: Verb,
}

/// What a [`Command`] asks for. Nothing that is stored under a key of a caller is replaced but by its CAS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// What is there, without its bytes.
    Look,
    /// What is there. An item that was marked stale may be won by it.
    Read,
    /// What is there; nothing there is won, and stands as an empty item for so many seconds.
    Lease(u32),
    /// Stores where nothing is.
    Add(Item),
    /// Stores over the item with this CAS.
    Swap(u64, Item),
    /// Stores.
    Set(Item),
    /// Deletes the item with this CAS.
    Delete(u64),
    /// Marks the item with this CAS as stale and gives it another CAS; whoever reads it next wins it. It keeps its life,
    /// or lives for so many seconds.
    Stale(u64, Option<u32>),
}

/// Something to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Kept beside the bytes.
    pub flags: u32,
    /// How long it lives; 0: for ever.
    pub seconds: u32,
    /// The first bytes.
    pub head: Bytes,
    /// Those that follow.
    pub payload: Bytes,
}

impl Command {
    /// Writes it for a server whose clock stands at `unix_now`, s. Each is answered by exactly one reply.
    pub fn encode(&self, unix_now: u64, out: &mut BytesMut) {
        self.encode_numbered(unix_now, None, out);
    }

    /// As [`Command::encode`], with a number that comes back beside whatever was found or stored.
    pub fn encode_numbered(&self, unix_now: u64, opaque: Option<u64>, out: &mut BytesMut) {
        let name = &self.name;
        match &self.verb {
            Verb::Look => get(name, b" c t f s", out),
            Verb::Read => get(name, b" v c t f", out),
            Verb::Lease(seconds) => {
                get(name, b" v c t f N", out);
                number(argument((*seconds).max(1), unix_now), out);
            }
            Verb::Add(item) => set(name, item, unix_now, out, |out| out.put_slice(b" ME")),
            Verb::Set(item) => set(name, item, unix_now, out, |_| ()),
            Verb::Swap(cas, item) => set(name, item, unix_now, out, |out| with_cas(*cas, out)),
            Verb::Delete(cas) => {
                delete(name, out);
                with_cas(*cas, out);
            }
            Verb::Stale(cas, seconds) => {
                delete(name, out);
                out.put_slice(b" I");
                with_cas(*cas, out);
                if let Some(seconds) = seconds {
                    // 0 would make it stale for ever.
                    life((*seconds).max(1), unix_now, out);
                }
            }
        }
        if let Some(opaque) = opaque {
            out.put_slice(b" O");
            number(opaque, out);
        }
        out.put_slice(b"\r\n");
        if let Verb::Add(item) | Verb::Set(item) | Verb::Swap(_, item) = &self.verb {
            out.put_slice(&item.head);
            out.put_slice(&item.payload);
            out.put_slice(b"\r\n");
        }
    }

    /// Writes a read of many. The reply to each that is there has its place as
    /// [opaque](super::Meta::opaque); the rest is silent, and [`Reply::Noop`](super::Reply::Noop) comes last.
    pub fn encode_reads<'a>(names: impl IntoIterator<Item = &'a Name>, out: &mut BytesMut) {
        for (at, name) in names.into_iter().enumerate() {
            get(name, b" v c t f q O", out);
            number(at as u64, out);
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"mn\r\n");
    }

    /// Writes a question for what the server says of itself: [`Reply::Stat`](super::Reply::Stat) for each field of
    /// `stats` and an [`Reply::End`](super::Reply::End), the same for `stats settings`, and a [`Reply::Noop`](super::Reply::Noop).
    pub fn encode_greeting(out: &mut BytesMut) {
        out.put_slice(b"stats\r\nstats settings\r\nmn\r\n");
    }
}

fn get(name: &Name, flags: &[u8], out: &mut BytesMut) {
    out.put_slice(b"mg ");
    name.write(out);
    name.write_flag(out);
    out.put_slice(flags);
}

fn delete(name: &Name, out: &mut BytesMut) {
    out.put_slice(b"md ");
    name.write(out);
    name.write_flag(out);
}

fn set(name: &Name, item: &Item, unix_now: u64, out: &mut BytesMut, how: impl FnOnce(&mut BytesMut)) {
    out.put_slice(b"ms ");
    name.write(out);
    out.put_u8(b' ');
    number((item.head.len() + item.payload.len()) as u64, out);
    name.write_flag(out);
    out.put_slice(b" F");
    number(item.flags.into(), out);
    life(item.seconds, unix_now, out);
    how(out);
    // The reply tells the CAS of what was stored.
    out.put_slice(b" c");
}

fn life(seconds: u32, unix_now: u64, out: &mut BytesMut) {
    out.put_slice(b" T");
    number(argument(seconds, unix_now), out);
}

fn with_cas(cas: u64, out: &mut BytesMut) {
    out.put_slice(b" C");
    number(cas, out);
}

fn number(number: u64, out: &mut BytesMut) {
    // Writing to a buffer that grows does not fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(name: &[u8], verb: Verb) -> String {
        let mut out = BytesMut::new();
        Command { name: Name::new(b"", name), verb }.encode(1_800_000_000, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn item(seconds: u32) -> Item {
        Item { flags: 7, seconds, head: Bytes::from_static(b"he"), payload: Bytes::from_static(b"\r\nad") }
    }

    #[test]
    fn commands_are_pinned_byte_by_byte() {
        assert_eq!(bytes(b"k", Verb::Look), "mg k c t f s\r\n");
        assert_eq!(bytes(b"k", Verb::Read), "mg k v c t f\r\n");
        assert_eq!(bytes(b"k", Verb::Lease(30)), "mg k v c t f N30\r\n");
        assert_eq!(bytes(b"k", Verb::Lease(0)), "mg k v c t f N1\r\n");
        assert_eq!(bytes(b"k", Verb::Add(item(9))), "ms k 6 F7 T9 ME c\r\nhe\r\nad\r\n");
        assert_eq!(bytes(b"k", Verb::Set(item(0))), "ms k 6 F7 T0 c\r\nhe\r\nad\r\n");
        assert_eq!(bytes(b"k", Verb::Swap(5, item(2_592_000))), "ms k 6 F7 T2592000 C5 c\r\nhe\r\nad\r\n");
        assert_eq!(bytes(b"k", Verb::Swap(5, item(2_592_001))), "ms k 6 F7 T1802592001 C5 c\r\nhe\r\nad\r\n");
        assert_eq!(bytes(b"k", Verb::Delete(u64::MAX)), "md k C18446744073709551615\r\n");
        assert_eq!(bytes(b"k", Verb::Stale(5, None)), "md k I C5\r\n");
        assert_eq!(bytes(b"k", Verb::Stale(5, Some(0))), "md k I C5 T1\r\n");
    }

    #[test]
    fn numbers_stand_at_the_end_of_the_line() {
        for (verb, line) in [
            (Verb::Look, "mg k c t f s O17\r\n"),
            (Verb::Add(item(9)), "ms k 6 F7 T9 ME c O17\r\nhe\r\nad\r\n"),
            (Verb::Delete(5), "md k C5 O17\r\n"),
        ] {
            let mut out = BytesMut::new();
            Command { name: Name::new(b"", b"k"), verb }.encode_numbered(0, Some(17), &mut out);
            assert_eq!(&out[..], line.as_bytes());
        }
    }

    #[test]
    fn odd_names_are_flagged_in_every_command() {
        assert_eq!(bytes(b"a b", Verb::Read), "mg YSBi b v c t f\r\n");
        assert_eq!(bytes(b"a b", Verb::Set(item(1))), "ms YSBi 6 b F7 T1 c\r\nhe\r\nad\r\n");
        assert_eq!(bytes(b"a b", Verb::Delete(1)), "md YSBi b C1\r\n");
    }

    #[test]
    fn reads_of_many_are_numbered_and_closed() {
        let names = [Name::new(b"", b"k"), Name::new(b"", b"a b")];
        let mut out = BytesMut::new();
        Command::encode_reads(&names, &mut out);
        assert_eq!(&out[..], b"mg k v c t f q O0\r\nmg YSBi b v c t f q O1\r\nmn\r\n");
    }
}
