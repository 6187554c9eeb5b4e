//! TTLs by the class of what is stored.

use std::borrow::Cow;
use std::sync::Arc;

use super::{DataClass, Ttl};

/// A small table of TTLs by data class: [presets](DataClass), classes of your own, and a base for the rest.
///
/// A class is looked up by its name, by whoever knows it: a call, for its options, or the loader, when it has seen
/// the value. Names are compared as they are. A clone is cheap and shares the table.
///
/// ```
/// # use cachalot_core::{DataClass, EntryOptions, Tiers, Ttl};
/// let tiers = Tiers::presets()
///     .class("invoice", Ttl::hours(12))
///     .class(DataClass::Search, Ttl::seconds(30)) // Instead of its 60 s.
///     .base(Ttl::minutes(10));
///
/// let options = EntryOptions::default().ttl(tiers.of(DataClass::Session));
/// assert_eq!(options.ttl, Ttl::session());
/// assert_eq!(tiers.of("invoice"), Ttl::hours(12));
/// assert_eq!(tiers.of("nobody said"), Ttl::minutes(10));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Tiers {
    base: Ttl,
    /// In the order in which they came: there are few.
    classes: Arc<Vec<(Cow<'static, str>, Ttl)>>,
}

impl Tiers {
    /// No class yet: whatever is asked for gets `base`.
    pub fn new(base: impl Into<Ttl>) -> Self {
        Self { base: base.into(), classes: Arc::default() }
    }

    /// The five of [`DataClass`], from a day for a session to ten seconds for data in real time; the rest gets
    /// 3,600 s ± 10 %.
    pub fn presets() -> Self {
        DataClass::ALL.into_iter().fold(Self::default(), |tiers, class| tiers.class(class, class))
    }

    /// Adds the class `name`, or gives it another TTL.
    #[must_use]
    pub fn class(mut self, name: impl AsRef<str>, ttl: impl Into<Ttl>) -> Self {
        let (name, ttl) = (name.as_ref(), ttl.into());
        let classes = Arc::make_mut(&mut self.classes);
        match classes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = ttl,
            None => classes.push((Cow::Owned(name.to_owned()), ttl)),
        }
        self
    }

    /// Sets the TTL of every class that is not in the table.
    #[must_use]
    pub fn base(mut self, ttl: impl Into<Ttl>) -> Self {
        self.base = ttl.into();
        self
    }

    /// The TTL of the class `name`, or the base.
    pub fn of(&self, name: impl AsRef<str>) -> Ttl {
        self.get(name).unwrap_or(self.base)
    }

    /// The TTL of the class `name`. `None`: it is not in the table. For who would rather know than get the base.
    pub fn get(&self, name: impl AsRef<str>) -> Option<Ttl> {
        let name = name.as_ref();
        self.classes.iter().find(|(known, _)| known == name).map(|(_, ttl)| *ttl)
    }

    /// The longest that a TTL of it may be, the base's included.
    pub fn longest(&self) -> std::time::Duration {
        self.classes.iter().map(|(_, ttl)| ttl.longest()).fold(self.base.longest(), std::cmp::Ord::max)
    }
}

impl Default for Tiers {
    /// No class, and 3,600 s ± 10 % for all.
    fn default() -> Self {
        Self::new(Ttl::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{hours, seconds};

    #[test]
    fn a_class_gets_its_own_ttl_and_the_rest_the_base() {
        let tiers = Tiers::presets().class("invoice", hours(12)).base(seconds(7));
        for class in DataClass::ALL {
            assert_eq!(tiers.of(class), class.ttl());
            assert_eq!(tiers.of(class.name()), class.ttl());
        }
        assert_eq!(tiers.of("invoice"), Ttl::hours(12));
        for unknown in ["", "Invoice", "invoice ", "sessions"] {
            assert_eq!((tiers.get(unknown), tiers.of(unknown)), (None, Ttl::seconds(7)), "{unknown:?}");
        }
    }

    #[test]
    fn the_last_word_on_a_class_counts_and_a_clone_keeps_its_own() {
        let one = Tiers::new(seconds(1)).class("a", seconds(2));
        let other = one.clone().class("a", seconds(3));
        assert_eq!((one.of("a"), other.of("a")), (Ttl::seconds(2), Ttl::seconds(3)));
        assert_eq!(other.classes.len(), 1);
    }

    #[test]
    fn the_longest_is_that_of_all_with_jitter() {
        assert_eq!(Tiers::presets().longest(), seconds(95_040));
        assert_eq!(Tiers::new(hours(48)).class("a", seconds(1)).longest(), hours(48));
        assert_eq!(Tiers::default().class("for ever", Ttl::NEVER).longest(), std::time::Duration::MAX);
    }
}
