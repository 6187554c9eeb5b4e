//! The scripts of `lua/`, each one atomic step on one key.

use std::sync::LazyLock;

use redis::Cmd;

/// A script as it is sent: the shared prelude, then its own text.
pub(crate) struct Script {
    source: String,
    sha: String,
}

/// How a script is named to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// By its hash: refused with `NOSCRIPT` by a server that does not know it.
    Hash,
    /// By its text, which also makes the server know it.
    Text,
}

macro_rules! scripts {
    ($($name:ident)*) => {$(
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(text::$name));
    )*};
}

scripts! { GET_OR_LEASE PUT_LEASED RELEASE REMOVE EXPIRE HOLD PUT_HELD SWEEP TOUCH RAISE INDEX_ADD INDEX_FORGET }

mod text {
    pub(super) const PRELUDE: &str = include_str!("lua/prelude.lua");
    pub(super) const GET_OR_LEASE: &str = include_str!("lua/get_or_lease.lua");
    pub(super) const PUT_LEASED: &str = include_str!("lua/put_leased.lua");
    pub(super) const RELEASE: &str = include_str!("lua/release.lua");
    pub(super) const REMOVE: &str = include_str!("lua/remove.lua");
    pub(super) const EXPIRE: &str = include_str!("lua/expire.lua");
    pub(super) const HOLD: &str = include_str!("lua/hold.lua");
    pub(super) const PUT_HELD: &str = include_str!("lua/put_held.lua");
    pub(super) const SWEEP: &str = include_str!("lua/sweep.lua");
    pub(super) const INDEX_ADD: &str = include_str!("lua/index_add.lua");
    pub(super) const INDEX_FORGET: &str = include_str!("lua/index_forget.lua");
    pub(super) const TOUCH: &str = include_str!("lua/touch.lua");
    pub(super) const RAISE: &str = include_str!("lua/raise.lua");
}

impl Script {
    fn new(own: &str) -> Self {
        let source = format!("{}\n{own}", text::PRELUDE);
        let sha = redis::Script::new(&source).get_hash().to_owned();
        Self { source, sha }
    }

    /// Runs it by its hash: refused with `NOSCRIPT` by a server that does not know it.
    pub(crate) fn by_hash(&self, key: &[u8], arguments: &[&[u8]]) -> Cmd {
        command("EVALSHA", &self.sha, key, arguments)
    }

    /// Runs it by its text, which also makes the server know it.
    pub(crate) fn by_text(&self, key: &[u8], arguments: &[&[u8]]) -> Cmd {
        command("EVAL", &self.source, key, arguments)
    }

    /// Runs it on any number of keys.
    pub(crate) fn command(&self, by: By, keys: &[impl AsRef<[u8]>], arguments: &[&[u8]]) -> Cmd {
        let (verb, script) = match by {
            By::Hash => ("EVALSHA", &self.sha),
            By::Text => ("EVAL", &self.source),
        };
        let mut command = Cmd::new();
        command.arg(verb).arg(script).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        for argument in arguments {
            command.arg(*argument);
        }
        command
    }
}

fn command(verb: &str, script: &str, key: &[u8], arguments: &[&[u8]]) -> Cmd {
    let size = arguments.iter().map(|argument| argument.len()).sum::<usize>();
    let mut command =
        Cmd::with_capacity(4 + arguments.len(), verb.len() + script.len() + 1 + key.len() + size);
    command.arg(verb).arg(script).arg(1).arg(key);
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_what_it_takes_and_answers() {
        let own = [
            text::GET_OR_LEASE,
            text::PUT_LEASED,
            text::RELEASE,
            text::REMOVE,
            text::EXPIRE,
            text::HOLD,
            text::PUT_HELD,
            text::SWEEP,
            text::TOUCH,
            text::RAISE,
            text::INDEX_ADD,
            text::INDEX_FORGET,
        ];
        for text in own {
            for heading in ["KEYS: key.", "ARGV: ", "Replies: "] {
                assert!(text.contains(heading), "{heading} is missing in:\n{text}");
            }
            assert!(!text.contains("KEYS["), "the prelude names the one key:\n{text}");
        }
    }
}
