//! What the commands of a stream answer.

use bytes::Bytes;
use redis::Value;

use crate::fault::Fault;

/// One entry of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: Vec<u8>,
    /// The field that holds a message, if it has one.
    pub(super) message: Option<Bytes>,
    /// Whether it is the mark of a subscriber, which says nothing.
    pub(super) is_mark: bool,
}

/// The field of a message, and the one of a subscriber's mark.
pub(super) const MESSAGE: &[u8] = b"m";
pub(super) const MARK: &[u8] = b"a";

/// The entries that XREAD found in its one stream; none if it waited in vain.
pub(super) fn read(value: Value) -> Result<Vec<Entry>, Fault> {
    match value {
        Value::Nil => Ok(Vec::new()),
        Value::ServerError(_) => Err(refused(value)),
        Value::Map(streams) => streams.into_iter().next().map_or(Ok(Vec::new()), |(_, list)| entries(list)),
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(stream)) => stream.into_iter().nth(1).map_or_else(|| Err(garbled()), entries),
            None => Ok(Vec::new()),
            Some(_) => Err(garbled()),
        },
        _ => Err(garbled()),
    }
}

/// The entries of XRANGE.
pub(super) fn entries(value: Value) -> Result<Vec<Entry>, Fault> {
    match value {
        Value::Array(list) => list.into_iter().map(entry).collect(),
        Value::Nil => Ok(Vec::new()),
        Value::ServerError(_) => Err(refused(value)),
        _ => Err(garbled()),
    }
}

fn entry(value: Value) -> Result<Entry, Fault> {
    let Value::Array(parts) = value else {
        return Err(garbled());
    };
    let mut parts = parts.into_iter();
    let (Some(Value::BulkString(id)), Some(Value::Array(fields))) = (parts.next(), parts.next()) else {
        return Err(garbled());
    };
    let mut entry = Entry { id, message: None, is_mark: false };
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(value)) = (fields.next(), fields.next()) {
        match value {
            Value::BulkString(bytes) if name == MESSAGE => entry.message = Some(bytes.into()),
            _ => entry.is_mark |= name == MARK,
        }
    }
    Ok(entry)
}

fn refused(value: Value) -> Fault {
    value.extract_error().map_or_else(Fault::from, |_| garbled())
}

fn garbled() -> Fault {
    Fault::Garbled("a stream answered something else than entries")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn list() -> Value {
        let entry =
            |id, field, text| Value::Array(vec![bulk(id), Value::Array(vec![bulk(field), bulk(text)])]);
        Value::Array(vec![entry("1-0", "m", "hello"), entry("2-0", "a", ""), entry("3-0", "x", "y")])
    }

    fn expected() -> Vec<Entry> {
        let entry = |id: &str, message: Option<&'static str>, is_mark| Entry {
            id: id.into(),
            message: message.map(Bytes::from),
            is_mark,
        };
        vec![entry("1-0", Some("hello"), false), entry("2-0", None, true), entry("3-0", None, false)]
    }

    #[test]
    fn both_protocols_are_read() {
        let resp2 = Value::Array(vec![Value::Array(vec![bulk("bus"), list()])]);
        let resp3 = Value::Map(vec![(bulk("bus"), list())]);
        assert_eq!(read(resp2).unwrap(), expected());
        assert_eq!(read(resp3).unwrap(), expected());
        assert_eq!(entries(list()).unwrap(), expected());
        assert_eq!(read(Value::Nil).unwrap(), []);
    }

    #[test]
    fn anything_else_is_a_fault_and_no_panic() {
        for value in [Value::Int(1), Value::Okay, Value::Array(vec![Value::Nil]), Value::Array(vec![list()])]
        {
            assert!(read(value).is_err());
        }
    }
}
