//! The one command that reads.

use cachalot_core::Key;
use redis::{Cmd, Value};

use crate::fault::Fault;
use crate::name::name;

/// Asks for `keys`. A key of another type is answered like an absent one.
pub(crate) fn mget<'a>(key_prefix: &[u8], keys: impl ExactSizeIterator<Item = &'a Key>) -> Cmd {
    // Most keys are shorter; a longer one costs an allocation.
    const USUAL: usize = 48;
    let mut command = Cmd::with_capacity(1 + keys.len(), 4 + keys.len() * USUAL);
    command.arg("MGET");
    for key in keys {
        command.arg(&*name(key_prefix, key));
    }
    command
}

/// What was answered for so many keys, in their order.
pub(crate) fn values(reply: Value, keys: usize) -> Result<Vec<Value>, Fault> {
    match reply.extract_error()? {
        Value::Array(values) if values.len() == keys => Ok(values),
        _ => Err(Fault::Garbled("MGET answered for other keys")),
    }
}

/// The bytes of one value. `None` if there are none.
pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}
