//! What a server does with keys when its memory is full.

use super::*;
use crate::link::Link;

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Nothing.
    KeepsAll,
    /// What has a time to live.
    EvictsVolatile,
}

impl Policy {
    /// Asks the server of `backend`.
    pub(super) async fn read(backend: &RedisBackend) -> Result<Self> {
        let node = backend.node();
        let text = Self::told_by(backend.link_aside()).await;
        let text = text.map_err(|fault| fault.into_error(OPENING, node))?;
        Self::told(&text)
            .map_err(|detail| Error::new(ErrorKind::Config, OPENING).detail(detail).node(node.to_owned()))
    }

    /// Whether the server behind `link` says that it may evict any key.
    pub(crate) async fn evicts_any(link: &Link) -> std::result::Result<bool, Fault> {
        let text = Self::told_by(link).await?;
        Ok(text.lines().any(|line| line.starts_with("maxmemory_policy:allkeys-")))
    }

    async fn told_by(link: &Link) -> std::result::Result<String, Fault> {
        let mut info = Cmd::new();
        // What managed servers answer too, unlike CONFIG.
        info.arg("INFO").arg("memory");
        match link.send(Request::One(&info), Again::Once).await {
            Ok(answer) => Ok(match answer.value.extract_error() {
                Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                Ok(Value::VerbatimString { text, .. }) => text,
                Ok(_) | Err(_) => String::new(),
            }),
            Err(fault @ (Fault::Timeout(_) | Fault::Down { .. } | Fault::Broken(_))) => Err(fault),
            Err(_) => Ok(String::new()),
        }
    }

    fn told(info: &str) -> Result<Self, String> {
        let line = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
        match line.map(str::trim) {
            Some("noeviction") => Ok(Self::KeepsAll),
            Some(policy) if policy.starts_with("volatile-") => Ok(Self::EvictsVolatile),
            Some(policy) => Err(format!(
                "with maxmemory-policy {policy} the server may evict the index of a tag, and removing the tag would \
                 miss keys without a word; set maxmemory-policy to noeviction or one of volatile-*, or use tags \
                 without an index"
            )),
            None => Err(String::from(
                "the server does not tell its maxmemory-policy (INFO memory); if it is noeviction or one of \
                 volatile-*, open the index unchecked",
            )),
        }
    }
}

const OPENING: &str = "redis index open";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_keep_indexes_are_accepted() {
        let told =
            |policy: &str| Policy::told(&format!("used_memory:1\r\nmaxmemory_policy:{policy}\r\nx:1\r\n"));
        assert_eq!(told("noeviction"), Ok(Policy::KeepsAll));
        for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
            assert_eq!(told(policy), Ok(Policy::EvictsVolatile));
        }
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random", "something-new"] {
            assert!(told(policy).unwrap_err().contains(policy), "{policy}");
        }
        assert!(Policy::told("").unwrap_err().contains("does not tell"));
    }
}
