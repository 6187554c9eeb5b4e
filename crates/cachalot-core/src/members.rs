//! Who is there: the caches of a fleet, as a shared tier lists them.
//!
//! Whoever wants to know that *every* process has done something must know which there are. Each cache
//! registers under its namespace for a term, and renews in time; whoever stops renewing is struck off when its
//! term ends, by the server's clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Key, PublisherId, Result};

/// One cache instance in one run of one process, as it registers.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    id: PublisherId,
    name: Arc<str>,
}

impl Member {
    /// The longest name, in bytes. What is longer is cut at a character.
    pub const MAX_NAME: usize = 64;

    /// A member under the id by which it speaks on the bus. `name` is for people: `web-7`, `pid 4711`; it need
    /// not be unique.
    pub fn new(id: PublisherId, name: &str) -> Self {
        let end = (0..=Self::MAX_NAME).rev().find(|end| name.is_char_boundary(*end));
        Self { id, name: name[..end.unwrap_or(0).min(name.len())].into() }
    }

    /// Who it is on the bus.
    pub fn id(&self) -> PublisherId {
        self.id
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its byte form: the id, then the name.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.id.as_bytes(), self.name.as_bytes()].concat()
    }

    /// The one of these bytes. `None` if they are none's.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, name) = bytes.split_first_chunk::<16>()?;
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= Self::MAX_NAME)?;
        Some(Self { id: PublisherId::from_bytes(*id), name: name.into() })
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Its name, and the beginning of its id: `web-7 (1f3a5c07)`.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = *self.id.as_bytes();
        let id = u32::from_be_bytes([a, b, c, d]);
        if self.name.is_empty() { write!(f, "{id:08x}") } else { write!(f, "{} ({id:08x})", self.name) }
    }
}

/// The lists of members of a [`Backend`](crate::Backend), one for each [registry](crate::Namespace::members).
///
/// **Who is listed**: whoever has [enrolled](MemberBackend::enroll) and whose term, counted by the server's clock
/// from when the server took the latest enrolment, is not over. Nobody else, however sure it is that it lives.
///
/// **What is forgotten**: a server may lose a registry, by an eviction or a flush, or forget the latest enrolments,
/// by a fail-over or a restart from an old snapshot. Then the registry begins anew, empty, and says so: it has
/// another [number](Enrolled::registry) and is [young](Roll::age). Until it is as old as the longest term, there may
/// be members that it does not know.
///
/// **The clock**: a server whose clock jumps forward ends terms early by as much.
#[async_trait]
pub trait MemberBackend: Send + Sync {
    /// Lists `member` in `registry` for `term` from now on, never for less than before.
    ///
    /// No implementation sends an enrolment a second time: the answer would be that of the second.
    ///
    /// # Errors
    /// Unavailable or timeout. It may have been listed, or may still be.
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled>;

    /// Strikes `member` off. Whether it was listed.
    ///
    /// # Errors
    /// As [`enroll`](MemberBackend::enroll).
    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool>;

    /// Who is listed, in no order. Grows with the number of members; one round trip.
    ///
    /// # Errors
    /// Unavailable or timeout.
    async fn roll(&self, registry: &Key) -> Result<Roll>;
}

/// What an enrolment found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Whether the member was listed until now. If not, nobody has waited for it since its term ended.
    pub was_listed: bool,
    /// Names the registry from its beginning until it is lost; then it has another number.
    pub registry: u64,
}

/// Who is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The members, each with how long it is listed yet, unless it renews.
    pub members: Vec<(Member, Duration)>,
    /// For how long, by the server's clock, nobody was struck off but by its term or by
    /// [`leave`](MemberBackend::leave).
    pub age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member::new(PublisherId::from_bytes([0x1f; 16]), name)
    }

    #[test]
    fn a_member_is_what_its_bytes_say() {
        for name in ["", "web-7", "Pottwal \u{1f40b}"] {
            assert_eq!(Member::from_bytes(&member(name).to_bytes()), Some(member(name)));
        }
        assert_eq!(Member::from_bytes(&[0; 15]), None);
        assert_eq!(Member::from_bytes(&[0xff; 17]), None);
        assert_eq!(Member::from_bytes(&[b'x'; 16 + Member::MAX_NAME + 1]), None);
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        assert_eq!(member(&"x".repeat(100)).name().len(), Member::MAX_NAME);
        assert_eq!(member(&"\u{1f40b}".repeat(17)).name(), "\u{1f40b}".repeat(16));
        assert_eq!(member(&format!("x{}", "\u{1f40b}".repeat(17))).name().len(), 61);
    }

    #[test]
    fn it_reads_as_its_name_and_the_beginning_of_its_id() {
        assert_eq!(member("web-7").to_string(), "web-7 (1f1f1f1f)");
        assert_eq!(member("").to_string(), "1f1f1f1f");
    }
}
