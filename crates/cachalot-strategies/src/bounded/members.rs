//! A bound on every step that is about members.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Enrolled, Error, ErrorKind, Key, Member, MemberBackend, Result, Roll};

use super::Bounded;

/// What another server says than the trusted one is not doubted here: a registry that begins anew says so itself.
#[async_trait]
impl MemberBackend for Bounded {
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        let enroll = self.inner_members()?.enroll(registry, member, term);
        self.within("enroll", registry, enroll).await
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        self.within("leave", registry, self.inner_members()?.leave(registry, member)).await
    }

    async fn roll(&self, registry: &Key) -> Result<Roll> {
        self.within("roll", registry, self.inner_members()?.roll(registry)).await
    }
}

impl Bounded {
    /// The members of the backend inside, which has some, or
    /// [`Backend::members`](cachalot_core::Backend::members) would have given none.
    fn inner_members(&self) -> Result<&dyn MemberBackend> {
        let none =
            || Error::new(ErrorKind::Unsupported, "members").detail("the shared tier lists no members");
        self.inner.members().ok_or_else(none)
    }
}
