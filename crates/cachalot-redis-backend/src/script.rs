//! The scripts of `lua/`, each one atomic step on one key.

use std::sync::LazyLock;

use cachalot_core::Token;
use redis::Cmd;

use crate::era::Era;

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

/// What a script is given.
#[derive(Clone, Copy)]
pub(crate) enum Argument<'a> {
    Bytes(&'a [u8]),
    /// Of a lease or a hold: sent as it stands in the server.
    Token(&'a Token),
}

macro_rules! scripts {
    ($($name:ident)*) => {$(
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(text::$name));
    )*};
}

/// With the list's own prelude.
macro_rules! scripts_about_members {
    ($($name:ident)*) => {$(
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(&format!("{}\n{}", text::REGISTRY, text::$name)));
    )*};
}

scripts_about_members! { ENROLL LEAVE ROLL }
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
    pub(super) const REGISTRY: &str = include_str!("lua/registry.lua");
    pub(super) const ENROLL: &str = include_str!("lua/enroll.lua");
    pub(super) const LEAVE: &str = include_str!("lua/leave.lua");
    pub(super) const ROLL: &str = include_str!("lua/roll.lua");
    pub(super) const RAISE: &str = include_str!("lua/raise.lua");
}

impl Script {
    fn new(own: &str) -> Self {
        Self::of(format!("{}\n{own}", text::PRELUDE))
    }

    /// The script of this text, all of it.
    pub(crate) fn of(source: String) -> Self {
        let sha = redis::Script::new(&source).get_hash().to_owned();
        Self { source, sha }
    }

    /// Runs it on one key, in `era`.
    pub(crate) fn on(&self, by: By, key: &[u8], arguments: &[Argument<'_>], era: Era) -> Cmd {
        let (verb, script) = self.called(by);
        let size = arguments.iter().map(Argument::len).sum::<usize>() + Era::LEN;
        let mut command =
            Cmd::with_capacity(5 + arguments.len(), verb.len() + script.len() + 1 + key.len() + size);
        command.arg(verb).arg(script).arg(1).arg(key);
        for argument in arguments {
            match argument {
                Argument::Bytes(bytes) => command.arg(*bytes),
                Argument::Token(token) => command.arg(&era.lease_token(token.as_bytes())),
            };
        }
        command.arg(era.as_bytes());
        command
    }

    /// Runs it on any number of keys. For scripts that do the same in every era.
    pub(crate) fn command(&self, by: By, keys: &[impl AsRef<[u8]>], arguments: &[&[u8]]) -> Cmd {
        let (verb, script) = self.called(by);
        let mut command = Cmd::new();
        command.arg(verb).arg(script).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        for argument in arguments {
            command.arg(*argument);
        }
        command.arg(Era::NONE.as_bytes());
        command
    }

    fn called(&self, by: By) -> (&'static str, &str) {
        match by {
            By::Hash => ("EVALSHA", &self.sha),
            By::Text => ("EVAL", &self.source),
        }
    }
}

impl Argument<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Token(token) => token.as_bytes().len(),
        }
    }
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
            text::ENROLL,
            text::LEAVE,
            text::ROLL,
        ];
        for text in own {
            for heading in ["KEYS: key.", "ARGV: ", "Replies: "] {
                assert!(text.contains(heading), "{heading} is missing in:\n{text}");
            }
            assert!(!text.contains("KEYS["), "the prelude names the one key:\n{text}");
        }
    }
}
