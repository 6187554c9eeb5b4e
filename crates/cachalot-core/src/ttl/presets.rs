//! TTLs that the usual recipes give.

use super::Ttl;

/// A kind of data with a usual TTL. A [`Ttl`] is made `From` it, so it stands wherever one does.
///
/// ```
/// # use cachalot_core::{DataClass, EntryOptions, Ttl};
/// let options = EntryOptions::default().ttl(DataClass::Search);
/// assert_eq!(options.ttl, Ttl::search());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataClass {
    /// A user's session: 86,400 s.
    Session,
    /// A user's profile: 3,600 s.
    Profile,
    /// A catalogue of products: 300 s.
    Catalogue,
    /// The results of a search: 60 s.
    Search,
    /// Data in real time: 10 s.
    RealTime,
}

impl DataClass {
    /// All of them, the longest TTL first.
    pub const ALL: [Self; 5] = [Self::Session, Self::Profile, Self::Catalogue, Self::Search, Self::RealTime];

    /// Its name: `session`, `profile`, `catalogue`, `search` or `real-time`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Profile => "profile",
            Self::Catalogue => "catalogue",
            Self::Search => "search",
            Self::RealTime => "real-time",
        }
    }

    /// Its TTL, ± 10 %.
    pub const fn ttl(self) -> Ttl {
        match self {
            Self::Session => Ttl::session(),
            Self::Profile => Ttl::profile(),
            Self::Catalogue => Ttl::catalogue(),
            Self::Search => Ttl::search(),
            Self::RealTime => Ttl::real_time(),
        }
    }
}

impl AsRef<str> for DataClass {
    /// Its [name](DataClass::name).
    fn as_ref(&self) -> &str {
        self.name()
    }
}

impl From<DataClass> for Ttl {
    fn from(class: DataClass) -> Self {
        class.ttl()
    }
}

/// Presets. Each is spread by ± 10 %, so that what was loaded together does not expire together.
impl Ttl {
    /// For a user's session: 86,400 s ± 10 %.
    pub const fn session() -> Self {
        Self::seconds(86_400).jitter(Self::USUAL_JITTER)
    }

    /// For a user's profile: 3,600 s ± 10 %.
    pub const fn profile() -> Self {
        Self::seconds(3_600).jitter(Self::USUAL_JITTER)
    }

    /// For a catalogue of products: 300 s ± 10 %.
    pub const fn catalogue() -> Self {
        Self::seconds(300).jitter(Self::USUAL_JITTER)
    }

    /// For the results of a search: 60 s ± 10 %.
    pub const fn search() -> Self {
        Self::seconds(60).jitter(Self::USUAL_JITTER)
    }

    /// For data in real time: 10 s ± 10 %.
    pub const fn real_time() -> Self {
        Self::seconds(10).jitter(Self::USUAL_JITTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::seconds;
    use crate::{Entropy, Recency};

    #[test]
    fn the_presets_are_the_numbers_that_are_documented() {
        let golden =
            [("session", 86_400), ("profile", 3_600), ("catalogue", 300), ("search", 60), ("real-time", 10)];
        let got = DataClass::ALL.map(|class| (class.name(), class.ttl().base().as_secs()));
        assert_eq!(got, golden);
        for class in DataClass::ALL {
            assert_eq!(Ttl::from(class), Ttl::seconds(class.ttl().base().as_secs()).jitter(0.1));
        }
        assert_eq!(Ttl::default(), Ttl::seconds(3_600).jitter(0.1));
        let recency =
            [0, 59, 60, 299, 300, 86_400].map(|ago| Recency::default().life(seconds(ago)).as_secs());
        assert_eq!(recency, [3_600, 3_600, 1_800, 1_800, 60, 60]);
    }

    #[test]
    fn presets_are_spread_evenly_by_a_tenth() {
        let entropy = Entropy::seeded(11);
        for class in DataClass::ALL {
            let base = class.ttl().base().as_secs_f64();
            let mut tenths = [0_u32; 10];
            for _ in 0..20_000 {
                let place = (class.ttl().draw(&entropy).as_secs_f64() / base - 0.9) / 0.02;
                tenths[place.clamp(0.0, 9.0) as usize] += 1;
            }
            assert!(tenths.iter().all(|n| n.abs_diff(2_000) < 200), "{class:?}: {tenths:?}");
        }
    }
}
