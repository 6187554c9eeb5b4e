//! A call as data, so that it can be done later.

use std::fmt;
use std::time::Duration;

use cachalot_core::{Backend, Depth, Key, KeyPattern, Member, Nonce, Put, SweepCursor, TagToken, Token};

/// An operation of [`Backend`] or [`LeaseBackend`](cachalot_core::LeaseBackend).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Backend::get`](cachalot_core::Backend::get).
    Get,
    /// [`Backend::get_many`](cachalot_core::Backend::get_many).
    GetMany,
    /// [`Backend::remove`](cachalot_core::Backend::remove).
    Remove,
    /// [`Backend::remove_many`](cachalot_core::Backend::remove_many).
    RemoveMany,
    /// [`Backend::sweep`](cachalot_core::Backend::sweep).
    Sweep,
    /// [`Backend::expire`](cachalot_core::Backend::expire).
    Expire,
    /// [`Backend::touch`](cachalot_core::Backend::touch).
    Touch,
    /// [`LeaseBackend::get_or_lease`](cachalot_core::LeaseBackend::get_or_lease).
    GetOrLease,
    /// [`LeaseBackend::put_leased`](cachalot_core::LeaseBackend::put_leased).
    PutLeased,
    /// [`LeaseBackend::release`](cachalot_core::LeaseBackend::release).
    Release,
    /// [`LeaseBackend::hold`](cachalot_core::LeaseBackend::hold).
    Hold,
    /// [`LeaseBackend::put_held`](cachalot_core::LeaseBackend::put_held).
    PutHeld,
    /// [`TagBackend::tag_tokens`](cachalot_core::TagBackend::tag_tokens).
    TagTokens,
    /// [`TagBackend::pin_tags`](cachalot_core::TagBackend::pin_tags).
    PinTags,
    /// [`TagBackend::rotate_tags`](cachalot_core::TagBackend::rotate_tags).
    RotateTags,
    /// [`MemberBackend::enroll`](cachalot_core::MemberBackend::enroll).
    Enroll,
    /// [`MemberBackend::leave`](cachalot_core::MemberBackend::leave).
    Leave,
    /// [`MemberBackend::roll`](cachalot_core::MemberBackend::roll).
    Roll,
    /// [`VersionBackend::raise`](cachalot_core::VersionBackend::raise).
    Raise,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::Remove => "remove",
            Self::RemoveMany => "remove_many",
            Self::Sweep => "sweep",
            Self::Expire => "expire",
            Self::Touch => "touch",
            Self::GetOrLease => "get_or_lease",
            Self::PutLeased => "put_leased",
            Self::Release => "release",
            Self::Hold => "hold",
            Self::PutHeld => "put_held",
            Self::TagTokens => "tag_tokens",
            Self::PinTags => "pin_tags",
            Self::RotateTags => "rotate_tags",
            Self::Enroll => "enroll",
            Self::Leave => "leave",
            Self::Roll => "roll",
            Self::Raise => "raise",
        })
    }
}

#[derive(Clone, Debug)]
pub(super) enum Call {
    Get(Key),
    GetMany(Vec<Key>),
    Remove(Key),
    RemoveMany(Vec<Key>),
    Sweep(KeyPattern, SweepCursor),
    Expire(Key, Duration),
    Touch(Key, Nonce, Duration),
    GetOrLease(Key, Token, Duration, Option<Nonce>),
    PutLeased(Key, Token, Put),
    Release(Key, Token),
    Hold(Key, Token, Duration),
    PutHeld(Key, Token, Put),
    TagTokens(Vec<Key>),
    PinTags(Vec<Key>, Vec<TagToken>, Duration),
    RotateTags(Vec<Key>, Vec<TagToken>, Depth, Duration),
    Enroll(Key, Member, Duration),
    Leave(Key, Member),
    Roll(Key),
    Raise(Key, u64, Duration),
}

impl Call {
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Get(..) => Operation::Get,
            Self::GetMany(..) => Operation::GetMany,
            Self::Remove(..) => Operation::Remove,
            Self::RemoveMany(..) => Operation::RemoveMany,
            Self::Sweep(..) => Operation::Sweep,
            Self::Expire(..) => Operation::Expire,
            Self::Touch(..) => Operation::Touch,
            Self::GetOrLease(..) => Operation::GetOrLease,
            Self::PutLeased(..) => Operation::PutLeased,
            Self::Release(..) => Operation::Release,
            Self::Hold(..) => Operation::Hold,
            Self::PutHeld(..) => Operation::PutHeld,
            Self::TagTokens(..) => Operation::TagTokens,
            Self::PinTags(..) => Operation::PinTags,
            Self::RotateTags(..) => Operation::RotateTags,
            Self::Enroll(..) => Operation::Enroll,
            Self::Leave(..) => Operation::Leave,
            Self::Roll(..) => Operation::Roll,
            Self::Raise(..) => Operation::Raise,
        }
    }

    pub(super) fn keys(&self) -> &[Key] {
        match self {
            Self::Sweep(..) => &[],
            Self::GetMany(keys)
            | Self::RemoveMany(keys)
            | Self::TagTokens(keys)
            | Self::PinTags(keys, ..)
            | Self::RotateTags(keys, ..) => keys,
            Self::Get(key)
            | Self::Remove(key)
            | Self::Expire(key, ..)
            | Self::Touch(key, ..)
            | Self::GetOrLease(key, ..)
            | Self::PutLeased(key, ..)
            | Self::Release(key, ..)
            | Self::Hold(key, ..)
            | Self::Enroll(key, ..)
            | Self::Leave(key, ..)
            | Self::Roll(key)
            | Self::Raise(key, ..)
            | Self::PutHeld(key, ..) => std::slice::from_ref(key),
        }
    }

    /// Does it. Nobody waits for the answer any more.
    pub(super) async fn run(self, backend: &dyn Backend) {
        match self {
            Self::Get(key) => drop(backend.get(&key).await),
            Self::GetMany(keys) => drop(backend.get_many(&keys).await),
            Self::Remove(key) => drop(backend.remove(&key).await),
            Self::RemoveMany(keys) => drop(backend.remove_many(&keys).await),
            Self::Sweep(pattern, from) => drop(backend.sweep(&pattern, &from).await),
            Self::Expire(key, keep) => drop(backend.expire(&key, keep).await),
            Self::Touch(key, nonce, ttl) => drop(backend.touch(&key, nonce, ttl).await),
            Self::TagTokens(..) | Self::PinTags(..) | Self::RotateTags(..) => self.run_tagging(backend).await,
            Self::Enroll(..) | Self::Leave(..) | Self::Roll(..) => self.run_listing(backend).await,
            Self::Raise(name, version, ttl) => {
                if let Some(versions) = backend.versions() {
                    drop(versions.raise(&name, version, ttl).await);
                }
            }
            leasing => leasing.run_leasing(backend).await,
        }
    }

    async fn run_listing(self, backend: &dyn Backend) {
        let Some(members) = backend.members() else {
            return;
        };
        match self {
            Self::Enroll(registry, member, term) => drop(members.enroll(&registry, &member, term).await),
            Self::Leave(registry, member) => drop(members.leave(&registry, &member).await),
            Self::Roll(registry) => drop(members.roll(&registry).await),
            // The others need no members.
            _ => {}
        }
    }

    async fn run_tagging(self, backend: &dyn Backend) {
        let Some(tags) = backend.tags() else {
            return;
        };
        match self {
            Self::TagTokens(names) => drop(tags.tag_tokens(&names).await),
            Self::PinTags(names, fresh, ttl) => drop(tags.pin_tags(&names, &fresh, ttl).await),
            Self::RotateTags(names, fresh, depth, ttl) => {
                drop(tags.rotate_tags(&names, &fresh, depth, ttl).await);
            }
            // The others need no tags.
            _ => {}
        }
    }

    async fn run_leasing(self, backend: &dyn Backend) {
        let Some(leases) = backend.leases() else {
            return;
        };
        match self {
            Self::GetOrLease(key, token, term, refuse) => {
                drop(leases.get_or_lease(&key, token, term, refuse).await);
            }
            Self::PutLeased(key, token, put) => drop(leases.put_leased(&key, token, put).await),
            Self::Release(key, token) => drop(leases.release(&key, token).await),
            Self::Hold(key, token, term) => drop(leases.hold(&key, token, term).await),
            Self::PutHeld(key, token, put) => drop(leases.put_held(&key, token, put).await),
            // The others need no leases.
            _ => {}
        }
    }
}
