//! Its members.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Enrolled, Key, Member, MemberBackend, Result, Roll};

use super::{BrokenBackend, Defect};

#[async_trait]
impl MemberBackend for BrokenBackend {
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        let registry = &self.registry(registry);
        let listed = self.model.on_registry(registry, |registry, _| registry.members.contains_key(member));
        let term = match self.defect {
            Defect::StrikesOffNobody => Duration::MAX,
            Defect::StrikesOffTooEarly => term / 2,
            Defect::EnrollsForTwentyFourDays if term.as_millis() >= 1 << 31 => Duration::ZERO,
            _ => term,
        };
        match self.defect {
            Defect::RenewsNobody if listed => {
                let number = self.model.on_registry(registry, |registry, _| registry.number);
                return Ok(Enrolled { was_listed: true, registry: number });
            }
            Defect::ShortensATerm => drop(self.model.leave(registry, member).await?),
            Defect::EnrollsOneAlone => {
                self.model
                    .on_registry(registry, |registry, _| registry.members.retain(|one, _| one == member));
            }
            _ => {}
        }
        let mut enrolled = self.model.enroll(registry, member, term).await?;
        match self.defect {
            Defect::ShortensATerm => enrolled.was_listed = listed,
            Defect::TakesAnybodyForListed => enrolled.was_listed = true,
            Defect::TakesNobodyForListed => enrolled.was_listed = false,
            Defect::RenumbersRegistries => enrolled.registry += u64::from(listed),
            Defect::BeginsRegistriesAnew => {
                self.model.on_registry(registry, |registry, now| registry.begun_at = now);
            }
            _ => {}
        }
        Ok(enrolled)
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        let registry = &self.registry(registry);
        match self.defect {
            Defect::LeavesInWordsOnly => {
                Ok(self.model.on_registry(registry, |registry, _| registry.members.contains_key(member)))
            }
            Defect::AlwaysLeaves => self.model.leave(registry, member).await.map(|_| true),
            Defect::DismissesAll => {
                let left = self.model.leave(registry, member).await?;
                self.model.on_registry(registry, |registry, _| registry.members.clear());
                Ok(left)
            }
            _ => self.model.leave(registry, member).await,
        }
    }

    async fn roll(&self, registry: &Key) -> Result<Roll> {
        let mut roll = self.model.roll(&self.registry(registry)).await?;
        match self.defect {
            Defect::ListsSomeMembers => roll.members.truncate(64),
            Defect::ClaimsAllAges => roll.age = Duration::MAX,
            Defect::ForgetsNames => {
                roll.members.iter_mut().for_each(|(member, _)| *member = Member::new(member.id(), ""));
            }
            _ => {}
        }
        Ok(roll)
    }
}

impl BrokenBackend {
    /// The registry it really uses.
    fn registry(&self, registry: &Key) -> Key {
        match self.defect {
            Defect::MixesRegistries => Key::new("@"),
            _ => registry.clone(),
        }
    }
}
