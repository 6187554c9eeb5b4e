//! Faults of the lists of members.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Enrolled, Error, ErrorKind, Key, Member, MemberBackend, Result, Roll};

use super::Faulty;
use super::call::Call;

#[async_trait]
impl MemberBackend for Faulty {
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        let call = Call::Enroll(registry.clone(), member.clone(), term);
        self.pass(call, self.inner_members()?.enroll(registry, member, term)).await
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        let call = Call::Leave(registry.clone(), member.clone());
        self.pass(call, self.inner_members()?.leave(registry, member)).await
    }

    async fn roll(&self, registry: &Key) -> Result<Roll> {
        self.pass(Call::Roll(registry.clone()), self.inner_members()?.roll(registry)).await
    }
}

impl Faulty {
    /// Only asked for by who got them from [`Backend::members`](cachalot_core::Backend::members).
    fn inner_members(&self) -> Result<&dyn MemberBackend> {
        let missing = || Error::new(ErrorKind::Unsupported, "faulty members");
        self.inner.members().ok_or_else(missing)
    }
}
