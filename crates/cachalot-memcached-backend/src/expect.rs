//! Which replies fit which command.

use crate::codec::{Reply, Verb};

/// What a command may be answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// An item without its bytes, or nothing.
    Look,
    /// An item, or nothing.
    Value,
    /// An item: where nothing is, one is put.
    Lease,
    /// Done, or not.
    Change,
    /// As a change; or there is no memory for it.
    Store,
}

impl Expect {
    pub(crate) fn of(verb: &Verb) -> Self {
        match verb {
            Verb::Look => Self::Look,
            Verb::Read => Self::Value,
            Verb::Lease(_) => Self::Lease,
            Verb::Add(_) | Verb::Swap(..) | Verb::Set(_) => Self::Store,
            Verb::Delete(_) | Verb::Stale(..) => Self::Change,
        }
    }

    pub(crate) fn admits(self, reply: &Reply) -> bool {
        match self {
            Self::Look => matches!(reply, Reply::Done(_) | Reply::Missing),
            Self::Value => matches!(reply, Reply::Value(..) | Reply::Missing),
            Self::Lease => matches!(reply, Reply::Value(..)),
            Self::Change => is_of_a_change(reply),
            Self::Store => is_of_a_change(reply) || is_out_of_memory(reply),
        }
    }
}

fn is_of_a_change(reply: &Reply) -> bool {
    matches!(reply, Reply::Done(_) | Reply::NotFound | Reply::NotStored | Reply::Exists)
}

/// The one error after which the server goes on with the next command: it skips the bytes that it cannot keep.
fn is_out_of_memory(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(said) if said.starts_with("SERVER_ERROR out of memory"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::Meta;

    #[test]
    fn no_command_takes_the_reply_to_one_of_another_kind() {
        let memory = "SERVER_ERROR out of memory storing object";
        let replies = [
            (Reply::Value(Meta::default(), Bytes::new()), &[Expect::Value, Expect::Lease][..]),
            (Reply::Done(Meta::default()), &[Expect::Look, Expect::Change, Expect::Store]),
            (Reply::Missing, &[Expect::Look, Expect::Value]),
            (Reply::NotFound, &[Expect::Change, Expect::Store]),
            (Reply::NotStored, &[Expect::Change, Expect::Store]),
            (Reply::Exists, &[Expect::Change, Expect::Store]),
            (Reply::Noop, &[]),
            (Reply::End, &[]),
            (Reply::Error(memory.into()), &[Expect::Store]),
            (Reply::Error("SERVER_ERROR object too large for cache".into()), &[]),
        ];
        for (reply, fitting) in replies {
            for expect in [Expect::Look, Expect::Value, Expect::Lease, Expect::Change, Expect::Store] {
                assert_eq!(expect.admits(&reply), fitting.contains(&expect), "{expect:?}: {reply:?}");
            }
        }
    }
}
