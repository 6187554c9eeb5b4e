//! Bytes as replies.

use bytes::{Buf, Bytes, BytesMut};

/// The longest line that is read. The longest that a server writes holds a key and some numbers.
const LONGEST_LINE: usize = 2048;
/// How many bytes room is made for at a time, whatever length a value is announced with.
const ROOM_AT_ONCE: usize = 1 << 20;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `VA`: an item with its bytes.
    Value(Meta, Bytes),
    /// `HD`: done, or an item without its bytes.
    Done(Meta),
    /// `EN`: nothing is there to be read.
    Missing,
    /// `NF`: nothing is there to be changed.
    NotFound,
    /// `NS`: not stored, something is there.
    NotStored,
    /// `EX`: not done, the item has another CAS.
    Exists,
    /// `MN`.
    Noop,
    /// `STAT`: a name and a value.
    Stat(String, String),
    /// `END`.
    End,
    /// `ERROR`, `CLIENT_ERROR` or `SERVER_ERROR`, shortened. What follows on this connection may answer something else.
    Error(String),
}

/// What stands beside an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Which version of it. Counted by the server, and again from 1 by the next one: good for one connection only.
    pub cas: u64,
    /// How many seconds it has left; `None`: it does not end, or the server did not say.
    pub ttl: Option<u32>,
    /// What was put beside it.
    pub flags: u32,
    /// Its length.
    pub size: u64,
    /// What the command was numbered by.
    pub opaque: Option<u64>,
    /// `W`: this reader and no other has won it, and is to put a new value.
    pub won: bool,
    /// `X`: it was marked stale.
    pub stale: bool,
    /// `Z`: another reader has won it.
    pub taken: bool,
}

/// What no server says. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Takes replies off the front of what a connection has given so far, however it was split.
#[derive(Debug)]
pub struct Parser {
    longest_value: usize,
    /// How much of the line at the front has no end.
    scanned: usize,
    /// The head of a value whose bytes are still to come.
    head: Option<(Meta, usize)>,
}

impl Parser {
    /// One that refuses values of more than so many bytes.
    pub fn new(longest_value: usize) -> Self {
        Self { longest_value, scanned: 0, head: None }
    }

    /// Values may be so long.
    pub fn allow(&mut self, longest_value: usize) {
        self.longest_value = longest_value;
    }

    /// The next reply in `input`, which is taken off; `None` if more bytes have to come. Keeps at most
    /// a line and a value of the longest length waiting. After an error it makes no sense to go on.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
        if self.head.is_none() {
            let Some(line) = self.line(input)? else { return Ok(None) };
            match read_line(&line)? {
                Line::Reply(reply) => return Ok(Some(reply)),
                Line::Value(meta, size) if size <= self.longest_value => self.head = Some((meta, size)),
                Line::Value(..) => return Err(Malformed("a value longer than the server may keep")),
            }
        }
        let Some((meta, size)) = self.head else { return Ok(None) };
        let whole = size.checked_add(2).ok_or(Malformed("a value longer than memory"))?;
        if input.len() < whole {
            // Seldom, not each time that some more has come; and in steps, since the announced may never come.
            input.reserve((whole - input.len()).min(ROOM_AT_ONCE));
            return Ok(None);
        }
        self.head = None;
        let value = input.split_to(size).freeze();
        if &input[..2] != b"\r\n" {
            return Err(Malformed("a value that does not end where it should"));
        }
        input.advance(2);
        Ok(Some(Reply::Value(meta, value)))
    }

    /// The next line without its end.
    fn line(&mut self, input: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
        let end = input[self.scanned..].iter().position(|byte| *byte == b'\n');
        let length = end.map_or(input.len(), |at| self.scanned + at);
        if length > LONGEST_LINE {
            return Err(Malformed("a line without an end"));
        }
        if end.is_none() {
            self.scanned = length;
            return Ok(None);
        }
        self.scanned = 0;
        let mut line = input.split_to(length + 1);
        line.truncate(length);
        match line.last() {
            Some(b'\r') => line.truncate(length - 1),
            _ => return Err(Malformed("a line with half an end")),
        }
        Ok(Some(line))
    }
}

enum Line {
    Reply(Reply),
    Value(Meta, usize),
}

fn read_line(line: &[u8]) -> Result<Line, Malformed> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let reply = match words.next().unwrap_or_default() {
        b"VA" => {
            let size = words.next().and_then(number).ok_or(Malformed("a value without a length"))?;
            let size = usize::try_from(size).map_err(|_| Malformed("a value longer than memory"))?;
            let mut meta = read_meta(words)?;
            meta.size = size as u64;
            return Ok(Line::Value(meta, size));
        }
        b"HD" => Reply::Done(read_meta(words)?),
        b"EN" => Reply::Missing,
        b"NF" => Reply::NotFound,
        b"NS" => Reply::NotStored,
        b"EX" => Reply::Exists,
        b"MN" => Reply::Noop,
        b"END" => Reply::End,
        b"STAT" => {
            let name = text(words.next().unwrap_or_default());
            Reply::Stat(name, text(words.next().unwrap_or_default()))
        }
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => Reply::Error(text(line)),
        _ => return Err(Malformed("a line that is no reply")),
    };
    Ok(Line::Reply(reply))
}

fn read_meta<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Meta, Malformed> {
    const NO_NUMBER: Malformed = Malformed("a flag without its number");
    let mut meta = Meta::default();
    for word in words {
        let value = || number(&word[1..]).ok_or(NO_NUMBER);
        match word[0] {
            b'W' => meta.won = true,
            b'X' => meta.stale = true,
            b'Z' => meta.taken = true,
            b'c' => meta.cas = value()?,
            b'f' => meta.flags = value()?.try_into().map_err(|_| NO_NUMBER)?,
            b's' => meta.size = value()?,
            b't' if word == b"t-1" => meta.ttl = None,
            b't' => meta.ttl = Some(u32::try_from(value()?).unwrap_or(u32::MAX)),
            b'O' => meta.opaque = Some(value()?),
            // What we did not ask for.
            _ => {}
        }
    }
    Ok(meta)
}

fn number(digits: &[u8]) -> Option<u64> {
    let add = |sum: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// At most 160 bytes, in letters that harm no terminal.
fn text(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(160)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Vec<Reply>, Malformed> {
        let (mut parser, mut input) = (Parser::new(1 << 20), BytesMut::from(bytes));
        let mut replies = Vec::new();
        while let Some(reply) = parser.next(&mut input)? {
            replies.push(reply);
        }
        Ok(replies)
    }

    fn only(text: &str) -> Reply {
        let mut replies = parse(text.as_bytes()).unwrap();
        assert_eq!(replies.len(), 1, "{text:?}");
        replies.remove(0)
    }

    #[test]
    fn what_memcached_says_is_read() {
        let won = Meta { cas: 1, won: true, ..Meta::default() };
        assert_eq!(only("VA 0 c1 t-1 f0 W\r\n\r\n"), Reply::Value(won, Bytes::new()));
        let stale =
            Meta { cas: 3, ttl: Some(20), flags: 7, size: 2, stale: true, taken: true, ..Meta::default() };
        assert_eq!(only("VA 2 c3 t20 f7 Z X\r\n\r\n\r\n"), Reply::Value(stale, Bytes::from_static(b"\r\n")));
        let looked = Meta { cas: 5, ttl: Some(8), flags: 9, size: 1, opaque: Some(4), ..Meta::default() };
        assert_eq!(only("HD O4 c5 t8 f9 s1\r\n"), Reply::Done(looked));
        assert_eq!(only("NS c0\r\n"), Reply::NotStored);
        assert_eq!(only("NF c0\r\n"), Reply::NotFound);
        assert_eq!(only("EX c0\r\n"), Reply::Exists);
        assert_eq!(only("EN\r\n"), Reply::Missing);
        assert_eq!(only("MN\r\n"), Reply::Noop);
        assert_eq!(only("END\r\n"), Reply::End);
        assert_eq!(only("STAT pid 12\r\n"), Reply::Stat("pid".into(), "12".into()));
        let error = "SERVER_ERROR object too large for cache";
        assert_eq!(only(&format!("{error}\r\n")), Reply::Error(error.into()));
    }

    #[test]
    fn room_for_a_value_is_made_as_it_comes_whatever_was_announced() {
        for size in [(1 << 40) - 1, usize::MAX - 2, usize::MAX - 1, usize::MAX] {
            let (mut parser, mut input) = (Parser::new(usize::MAX), BytesMut::new());
            for _ in 0..3 {
                input.extend_from_slice(format!("VA {size} c1\r\n").as_bytes());
                match parser.next(&mut input) {
                    Ok(reply) => assert_eq!(reply, None, "{size}"),
                    Err(malformed) => assert_eq!(malformed, Malformed("a value longer than memory")),
                }
                assert!(input.capacity() <= 4 * ROOM_AT_ONCE, "{size}: {}", input.capacity());
            }
        }
    }

    #[test]
    fn what_no_server_says_is_refused() {
        let long = "x".repeat(LONGEST_LINE + 1);
        for text in [
            "HI\r\n",
            "\r\n",
            "VA\r\n",
            "VA x\r\n",
            "VA -1\r\n",
            "VA 18446744073709551615\r\n",
            "VA 99999999999999999999999\r\n",
            "VA 1048577 c1\r\n",
            "VA 1 c1\r\nxyz",
            "HD c\r\n",
            "HD cx\r\n",
            "HD f4294967296\r\n",
            "HD\n",
            "VALUE k 0 0\r\n",
            &long,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_value_that_is_announced_and_never_comes_takes_no_more_room_than_it_said() {
        let (mut parser, mut input) = (Parser::new(1 << 20), BytesMut::from(&b"VA 1048576 c1\r\n"[..]));
        assert_eq!(parser.next(&mut input), Ok(None));
        assert!(input.capacity() < 4 << 20);
    }

    fn replies() -> impl Strategy<Value = Vec<Reply>> {
        let meta = (any::<(u64, Option<u32>, u32, Option<u64>)>(), any::<(bool, bool, bool)>()).prop_map(
            |((cas, ttl, flags, opaque), (won, stale, taken))| Meta {
                cas,
                ttl,
                flags,
                size: 0,
                opaque,
                won,
                stale,
                taken,
            },
        );
        let value = (meta.clone(), proptest::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(meta, bytes)| Reply::Value(Meta { size: bytes.len() as u64, ..meta }, bytes.into()));
        let done = (meta, any::<u64>()).prop_map(|(meta, size)| Reply::Done(Meta { size, ..meta }));
        let plain = prop_oneof![
            Just(Reply::Missing),
            Just(Reply::NotFound),
            Just(Reply::NotStored),
            Just(Reply::Exists),
            Just(Reply::Noop),
            Just(Reply::End),
            "[a-z]{1,8}".prop_map(|name| Reply::Stat(name, "1".into())),
            "[a-z ]{0,40}".prop_map(|why| Reply::Error(format!("SERVER_ERROR {why}"))),
        ];
        proptest::collection::vec(prop_oneof![value, done, plain], 0..12)
    }

    /// As a server writes it.
    fn write(reply: &Reply, out: &mut Vec<u8>) {
        let flags = |meta: &Meta| {
            let mut text = format!(" c{} f{}", meta.cas, meta.flags);
            text += &meta.ttl.map_or(" t-1".to_owned(), |ttl| format!(" t{ttl}"));
            text += &meta.opaque.map_or(String::new(), |opaque| format!(" O{opaque}"));
            for (is, letter) in [(meta.won, " W"), (meta.stale, " X"), (meta.taken, " Z")] {
                text += if is { letter } else { "" };
            }
            text
        };
        let line = match reply {
            Reply::Value(meta, value) => format!("VA {}{}\r\n", value.len(), flags(meta)),
            Reply::Done(meta) => format!("HD{} s{}\r\n", flags(meta), meta.size),
            Reply::Missing => "EN\r\n".into(),
            Reply::NotFound => "NF\r\n".into(),
            Reply::NotStored => "NS\r\n".into(),
            Reply::Exists => "EX\r\n".into(),
            Reply::Noop => "MN\r\n".into(),
            Reply::End => "END\r\n".into(),
            Reply::Stat(name, value) => format!("STAT {name} {value}\r\n"),
            Reply::Error(error) => format!("{error}\r\n"),
        };
        out.extend_from_slice(line.as_bytes());
        if let Reply::Value(_, value) = reply {
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }

    proptest! {
        #[test]
        fn replies_are_read_however_they_are_split(
            replies in replies(),
            cuts in proptest::collection::vec(1usize..40, 1..20),
        ) {
            let mut bytes = Vec::new();
            replies.iter().for_each(|reply| write(reply, &mut bytes));
            let (mut parser, mut input, mut read) = (Parser::new(200), BytesMut::new(), Vec::new());
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (part, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                rest = left;
                input.extend_from_slice(part);
                while let Some(reply) = parser.next(&mut input).unwrap() {
                    read.push(reply);
                }
            }
            prop_assert!(input.is_empty());
            prop_assert_eq!(read, replies);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn damaged_replies_are_read_or_refused(replies in replies(), at in any::<usize>(), to in any::<u8>()) {
            let mut bytes = Vec::new();
            replies.iter().for_each(|reply| write(reply, &mut bytes));
            if !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] = to;
            }
            let _ = parse(&bytes);
        }
    }
}
