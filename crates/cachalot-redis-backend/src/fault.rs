//! What goes wrong between us and the server, and how a caller is told.

use std::time::Duration;

use cachalot_core::{Error, ErrorKind, Key, Retry};
use redis::RedisError;

/// Why a command has no answer. Holds no credentials, and nothing the server echoes of our arguments.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing came within the deadline.
    Timeout(Duration),
    /// There is no connection, and it is not yet time to try again.
    Down { cause: String, retry_in: Duration },
    /// The connection broke while the answer was awaited.
    Broken(String),
    /// The server does not know the script.
    NoScript,
    /// The key holds a list, a hash, or another type that is not ours.
    OtherType,
    /// The server refused.
    Refused { text: String, retry: Retry },
    /// The key's slot is another node's.
    Moved,
    /// The key's slot is on its way to another node, and this key is there already, if it is anywhere.
    Ask { to: String },
    /// The answer makes no sense.
    Garbled(&'static str),
}

impl Fault {
    /// The error of `operation`, which reads like `redis get`.
    pub(crate) fn into_error(self, operation: &'static str, node: &str) -> Error {
        let kind = match &self {
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::OtherType => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, operation).node(node);
        match self {
            Self::Timeout(deadline) => error.detail(format!("timeout after {} ms", deadline.as_millis())),
            Self::Down { cause, retry_in } => {
                error.detail(format!("not connected: {cause}")).with_retry(Retry::After(retry_in))
            }
            Self::Broken(cause) => error.detail(format!("connection lost: {cause}")).with_retry(Retry::Now),
            Self::NoScript => error.detail("the server does not keep scripts"),
            Self::OtherType => error.detail("the key holds another type of value"),
            Self::Refused { text, retry } => error.detail(text).with_retry(retry),
            Self::Moved | Self::Ask { .. } => {
                error.detail("the key is on another node of the cluster").with_retry(Retry::Now)
            }
            Self::Garbled(what) => error.detail(what),
        }
    }

    /// As [`Fault::into_error`], about one key.
    pub(crate) fn about(self, operation: &'static str, node: &str, key: &Key) -> Error {
        self.into_error(operation, node).key(key.as_bytes())
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some("NOSCRIPT") => Self::NoScript,
            Some("WRONGTYPE") => Self::OtherType,
            Some("MOVED") => Self::Moved,
            Some("ASK") => match error.redirect_node() {
                Some((to, _)) => Self::Ask { to: to.to_owned() },
                None => Self::Moved,
            },
            Some(code) => {
                Self::Refused { text: refusal(code, error.detail().unwrap_or_default()), retry: advice(code) }
            }
            None if error.kind() == redis::ErrorKind::AuthenticationFailed => Self::Refused {
                text: String::from("the server refused the credentials"),
                retry: Retry::Never,
            },
            None => Self::Broken(cause(&error)),
        }
    }
}

/// What the server said, without the arguments that it may quote.
fn refusal(code: &str, detail: &str) -> String {
    const SHOWN: usize = 160;
    let said = detail.split(", with args").next().unwrap_or_default();
    let said: String = said.chars().take(SHOWN).collect();
    format!("the server answered {code} {said}").trim_end().to_owned()
}

fn advice(code: &str) -> Retry {
    match code {
        "NOAUTH" | "NOPERM" | "WRONGPASS" | "ERR" => Retry::Never,
        _ => Retry::After(Duration::from_millis(100)),
    }
}

/// Why a connection could not be had or broke, in words that hold no credentials.
pub(crate) fn cause(error: &RedisError) -> String {
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        return String::from("the server refused the credentials");
    }
    match error.code() {
        Some(code) => refusal(code, error.detail().unwrap_or_default()),
        // Input and output errors: `Connection refused (os error 111)`.
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_operation_the_key_and_the_node() {
        let error = Fault::Timeout(Duration::from_millis(50)).about(
            "redis get",
            "10.0.0.3:6379",
            &Key::new("user:42"),
        );
        let text = "redis get failed: timeout after 50 ms (key user:42, node 10.0.0.3:6379)";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn arguments_that_the_server_quotes_are_left_out() {
        let text = refusal("ERR", "unknown command 'X', with args beginning with: 'secret' ");
        assert_eq!(text, "the server answered ERR unknown command 'X'");
    }
}
