//! Deliberate mistakes are found out: by a hundredth of the worlds, or else by a cell of the matrix, a scene,
//! or two writers.
//!
//! Those of the engine are compiled in by `cargo xtask mutants`, which prints what found each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use integration_tests::{Lapse, Mistake, Plan, sweep};

/// In how many of the first `worlds` worlds `mistake` is found out, and how many those were: it stops at
/// `enough`.
fn found_out(mistake: Mistake, worlds: u64, enough: usize) -> (usize, u64) {
    let (mut found, mut lived) = (0, 0);
    while lived < worlds && found < enough {
        let until = worlds.min(lived + PORTION);
        found += sweep(lived..until, |plan, is_traced| mistake.live(plan, is_traced)).broken.len();
        lived = until;
    }
    (found, lived)
}

const PORTION: u64 = 50;

#[test]
fn a_shared_tier_that_breaks_the_protocol_is_found_out_by_a_hundredth_of_the_worlds() {
    for mistake in Lapse::ALL.map(Mistake::Tier) {
        let (found, worlds) = found_out(mistake, 400, 4);
        assert!(found >= 4, "{mistake} is found out by {found} of {worlds} worlds");
    }
}

#[test]
fn a_broken_world_tells_its_seed_how_to_see_it_again_and_the_least_that_shows_it() {
    let mistake = Mistake::Tier(Lapse::LosesRemovals);
    let live = |plan: &Plan, is_traced| mistake.live(plan, is_traced);
    let seed =
        (0..400).find(|seed| live(&Plan::draw(*seed), false).broken.is_some()).expect("a broken world");
    let swept = sweep(seed..seed + 1, live);
    assert_eq!(swept.broken, [seed], "alone as among others");
    let panic = catch_unwind(AssertUnwindSafe(|| swept.assert_unbroken("worlds", live))).unwrap_err();
    let story = panic.downcast::<String>().expect("words");
    assert!(story.contains(&format!("seed {seed}: ")), "{story}");
    assert!(
        story.contains(&format!("again: CACHALOT_SEED={seed} cargo test -p integration-tests worlds")),
        "{story}"
    );
    let (_, least) = story.split_once("the least that shows it, ").expect("the least");
    let mut counts = least.split(' ').filter_map(|word| word.parse::<usize>().ok());
    let (least, all) = (counts.next().unwrap(), counts.next().unwrap());
    assert!(least < all, "{least} of {all} actions");
}

/// How a run of all mistakes, or of those that stand for them, is told.
#[cfg(cachalot_mutants)]
mod every {
    use cachalot_core::mutants::Mutant;
    use cachalot_testkit::broken::Defect;
    use integration_tests::Mistake;

    use super::found_out;
    use crate::{cluster, confirmed, era, matrix, scenes, writers};

    /// The mistakes that the protocol's counterexamples begin with.
    const SIX: [Mistake; 6] = [
        Mistake::Backend(Defect::IgnoresTheToken),
        Mistake::Backend(Defect::StoresOnAbsent),
        Mistake::Engine(Mutant::FillsMemoryUnfenced),
        Mistake::Engine(Mutant::LeavesFlightsOpen),
        Mistake::Engine(Mutant::FencesACopyLate),
        Mistake::Engine(Mutant::DropsInsteadOfDetaching),
    ];

    /// Those that need a real server.
    const OF_SERVERS: [Mistake; 4] = [
        Mistake::Engine(Mutant::TrustsValuesOfAnotherEra),
        Mistake::Engine(Mutant::KeepsLeasesAcrossEras),
        Mistake::Engine(Mutant::KeepsTagsAcrossEras),
        Mistake::Engine(Mutant::SweepsAClusterOnce),
    ];

    /// Of so many worlds a hundredth is enough.
    const WORLDS: u64 = 2_000;
    const ENOUGH: usize = 20;

    #[test]
    fn mutant_is_found_out() {
        let which = std::env::var("CACHALOT_MUTANTS").unwrap_or_default();
        let named = |mistake: &Mistake| which.split(',').any(|name| name == mistake.to_string());
        let (mistakes, witness): (_, fn(Mistake) -> Witness) = match which.as_str() {
            "six" => (SIX.to_vec(), in_few_worlds),
            "all" | "" => (Mistake::all(), quickest),
            _ => (Mistake::all().into_iter().filter(named).collect(), every),
        };
        assert!(!mistakes.is_empty(), "no mistake of {which:?}");
        if which != "six" {
            assert_eq!(matrix::cell_that_notices_nothing(), None, "nothing is wrong there");
        }
        println!("{:<28} found out by", "mutant");
        let mut missed = Vec::new();
        for mistake in mistakes {
            let Witness { is_enough, told } = witness(mistake);
            println!("{mistake:<28} {told}");
            if !is_enough {
                missed.push(mistake.to_string());
            }
        }
        assert!(missed.is_empty(), "not found out: {missed:?}");
    }

    /// Who has found a mistake out.
    struct Witness {
        is_enough: bool,
        told: String,
    }

    /// One that finds it out always, or else a hundredth of the worlds, which take longer.
    fn quickest(mistake: Mistake) -> Witness {
        always(mistake).unwrap_or_else(|| in_worlds(mistake, WORLDS, ENOUGH))
    }

    /// A hundredth of few worlds, or else one that finds it out always.
    fn in_few_worlds(mistake: Mistake) -> Witness {
        let worlds = in_worlds(mistake, 400, 4);
        if worlds.is_enough { worlds } else { worlds.or(always(mistake)) }
    }

    /// All of them, however many worlds would do.
    fn every(mistake: Mistake) -> Witness {
        if OF_SERVERS.contains(&mistake) {
            return quickest(mistake);
        }
        in_worlds(mistake, WORLDS, usize::MAX).or(scene(mistake)).or(writers(mistake)).or(cell(mistake))
    }

    /// What finds `mistake` out whenever it is asked.
    fn always(mistake: Mistake) -> Option<Witness> {
        scene(mistake).or_else(|| writers(mistake)).or_else(|| cell(mistake))
    }

    fn in_worlds(mistake: Mistake, most: u64, until: usize) -> Witness {
        let (found, worlds) = found_out(mistake, most, until);
        let is_enough = found as u64 * 100 >= most;
        Witness { is_enough, told: format!("{found:>5} of {worlds:>5} worlds") }
    }

    fn scene(mistake: Mistake) -> Option<Witness> {
        if OF_SERVERS.contains(&mistake) {
            return era::spoiled_by(mistake).or_else(|| cluster::spoiled_by(mistake)).map(Witness::one);
        }
        scenes::spoiled_by(mistake).or_else(|| confirmed::spoiled_by(mistake)).map(Witness::one)
    }

    fn writers(mistake: Mistake) -> Option<Witness> {
        writers::notice(mistake).then(|| Witness::one("two writers"))
    }

    fn cell(mistake: Mistake) -> Option<Witness> {
        let (row, column) = matrix::cell_that_notices(mistake)?;
        Some(Witness::one(format!("{row:?} x {column:?}")))
    }

    impl Witness {
        /// One that finds the mistake out always.
        fn one(told: impl Into<String>) -> Self {
            Self { is_enough: true, told: told.into() }
        }

        /// This one and, if there is `another`, that one.
        fn or(self, another: Option<Self>) -> Self {
            match another {
                None => self,
                Some(another) => Self {
                    is_enough: self.is_enough || another.is_enough,
                    told: format!("{}, {}", self.told, another.told),
                },
            }
        }
    }
}
