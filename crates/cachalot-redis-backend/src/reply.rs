//! Answers of scripts: `{status, now, ...}`.

use redis::Value;

use crate::era::Era;
use crate::fault::Fault;

/// A script's answer, taken apart from the front.
pub(crate) struct Reply {
    /// What happened.
    pub(crate) status: Vec<u8>,
    /// The server's time, ms.
    pub(crate) now_ms: u64,
    /// The era of the server that gave it.
    pub(crate) era: Era,
    rest: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn read(value: Value, era: Era) -> Result<Self, Fault> {
        let mut parts = match value.extract_error()? {
            Value::Array(parts) => parts.into_iter(),
            _ => return Err(Fault::Garbled("a script answered no list")),
        };
        let (Some(Value::BulkString(status)), Some(Value::Int(now))) = (parts.next(), parts.next()) else {
            return Err(Fault::Garbled("a script answered no status"));
        };
        Ok(Self { status, now_ms: u64::try_from(now).unwrap_or_default(), era, rest: parts })
    }

    /// The next part, a number.
    pub(crate) fn number(&mut self) -> u64 {
        match self.rest.next() {
            Some(Value::Int(number)) => u64::try_from(number).unwrap_or_default(),
            _ => 0,
        }
    }

    /// The next part, bytes. `None` if the script had none to give.
    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        match self.rest.next() {
            Some(Value::BulkString(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// For a status that the caller does not know.
    pub(crate) fn unknown<T>(&self) -> Result<T, Fault> {
        Err(Fault::Garbled("a script answered an unknown status"))
    }
}
