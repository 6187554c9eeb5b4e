//! Tags that followers want for what the leader stores.

use cachalot_core::Tags;

use super::{Follow, Lead};
use crate::sync::lock;

/// What followers have asked for, until the leader takes it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    tags: Tags,
    is_closed: bool,
}

impl<O> Follow<O> {
    /// Asks that what the flight gives be stored under `tags` too. Not if the leader has
    /// [taken](Lead::take_tags) them by then: this caller has come as late as one that finds it stored. Nor if they
    /// were too many together.
    pub fn ask_tags(&self, tags: &Tags) -> bool {
        let mut state = lock(&self.cell().state);
        match state.asked.tags.with(tags) {
            Ok(all) if !state.asked.is_closed => {
                state.asked.tags = all;
                true
            }
            _ => false,
        }
    }
}

impl<K, O> Lead<K, O> {
    /// What followers have [asked](Follow::ask_tags) for so far, to be called before it is stored. Nobody asks
    /// from then on.
    pub fn take_tags(&self) -> Tags {
        let mut state = lock(&self.cell.state);
        state.asked.is_closed = true;
        std::mem::take(&mut state.asked.tags)
    }
}

#[cfg(all(test, not(cachalot_loom)))]
mod tests {
    use cachalot_core::Tags;

    use crate::{Flights, Joined};

    #[test]
    fn the_leader_gets_the_tags_of_who_has_joined_before_it_asks() {
        let flights: Flights<u64, u64> = Flights::new();
        let Joined::Lead(lead, _) = flights.join(&1) else { panic!("nobody flies") };
        let [Joined::Follow(one), Joined::Follow(two)] = [flights.join(&1), flights.join(&1)] else {
            panic!("it flies")
        };
        let tags = |name: &str| Tags::new([name]).unwrap();
        assert!(one.ask_tags(&tags("a")) && two.ask_tags(&tags("b")) && one.ask_tags(&tags("a")));
        assert_eq!(lead.take_tags(), Tags::new(["a", "b"]).unwrap());
        assert!(!two.ask_tags(&tags("c")), "it is stored already");
        assert!(lead.take_tags().is_empty());
        lead.land(7);
    }
}
