//! What goes wrong between us and the server, and how a caller is told.

use std::time::Duration;

use cachalot_core::{Error, ErrorKind, Key, Retry};

/// Why a command has no answer. Holds nothing that the server quotes of our keys or values.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing came within the deadline.
    Timeout(Duration),
    /// There is no connection, and it is not yet time to try again.
    Down { cause: String, retry_in: Duration },
    /// The connection broke while the answer was awaited.
    Broken(String),
    /// The server is none that can be used.
    Unfit(&'static str),
    /// The server refused, and the connection was given up.
    Refused(String),
    /// So many bytes with their key exceed so many.
    TooLarge { size: usize, most: usize },
    /// Too much waits for answers already.
    Crowded,
    /// The answer makes no sense.
    Garbled(&'static str),
}

impl Fault {
    /// The fault of a server that answered a line of error.
    pub(crate) fn refused(said: &str, size: usize, most: usize) -> Self {
        if said.contains("too large") {
            return Self::TooLarge { size, most };
        }
        Self::Refused(format!("the server answered {said}"))
    }

    /// What broke the connection that it is of, in words.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Broken(cause) | Self::Refused(cause) => cause.clone(),
            Self::TooLarge { .. } => String::from("the server refused a value as too large"),
            Self::Unfit(what) | Self::Garbled(what) => (*what).to_owned(),
            Self::Timeout(_) => String::from("the server does not answer"),
            Self::Down { cause, .. } => cause.clone(),
            Self::Crowded => String::from("too many commands wait for their answers"),
        }
    }

    /// The error of `operation`, which reads like `memcached get`.
    pub(crate) fn into_error(self, operation: &'static str, node: &str) -> Error {
        let kind = match &self {
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::TooLarge { .. } => ErrorKind::Config,
            _ => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, operation).node(node);
        match self {
            Self::Timeout(deadline) => error.detail(format!("timeout after {} ms", deadline.as_millis())),
            Self::Down { cause, retry_in } => {
                error.detail(format!("not connected: {cause}")).with_retry(Retry::After(retry_in))
            }
            Self::Broken(cause) => error.detail(format!("connection lost: {cause}")).with_retry(Retry::Now),
            Self::TooLarge { size, most } => {
                error.detail(format!("a payload of {size} bytes exceeds the limit of {most}"))
            }
            Self::Unfit(what) => error.detail(what).with_retry(Retry::Never),
            fault => error.detail(fault.cause()),
        }
    }

    /// As [`Fault::into_error`], about one key.
    pub(crate) fn about(self, operation: &'static str, node: &str, key: &Key) -> Error {
        self.into_error(operation, node).key(key.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_operation_the_key_and_the_node() {
        let key = Key::new("user:42");
        let error = Fault::Timeout(Duration::from_millis(50)).about("memcached get", "10.0.0.3:11211", &key);
        let text = "memcached get failed: timeout after 50 ms (key user:42, node 10.0.0.3:11211)";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn what_is_too_large_is_the_callers_error_and_all_else_the_servers() {
        let large = Fault::refused("SERVER_ERROR object too large for cache", 7, 5);
        let error = large.into_error("memcached put_leased", "n");
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Config, Retry::Never));
        let full = Fault::refused("SERVER_ERROR out of memory storing object", 7, 5);
        assert_eq!(full.into_error("memcached put_leased", "n").kind(), ErrorKind::Unavailable);
    }
}
