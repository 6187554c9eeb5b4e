//! Deliberate mistakes are found out: by a hundredth of the worlds, or else by a cell of the matrix, a scene,
//! or two writers.
//!
//! Those of the engine are compiled in by `cargo xtask mutants`, which prints what found each.

use integration_tests::{Lapse, Mistake, sweep};

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

/// How a run of all mistakes, or of those that stand for them, is told.
#[cfg(cachalot_mutants)]
mod every {
    use cachalot_core::mutants::Mutant;
    use cachalot_testkit::broken::Defect;
    use integration_tests::Mistake;

    use super::found_out;
    use crate::{era, matrix, scenes, writers};

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
    const OF_ERAS: [Mistake; 3] = [
        Mistake::Engine(Mutant::TrustsValuesOfAnotherEra),
        Mistake::Engine(Mutant::KeepsLeasesAcrossEras),
        Mistake::Engine(Mutant::KeepsTagsAcrossEras),
    ];

    #[test]
    fn mutant_is_found_out() {
        let which = std::env::var("CACHALOT_MUTANTS").unwrap_or_default();
        let named = |mistake: &Mistake| which.split(',').any(|name| name == mistake.to_string());
        let (mistakes, most, until) = match which.as_str() {
            "six" => (SIX.to_vec(), 400, 4),
            "all" | "" => (Mistake::all(), 2_000, usize::MAX),
            _ => (Mistake::all().into_iter().filter(named).collect(), 2_000, usize::MAX),
        };
        assert!(!mistakes.is_empty(), "no mistake of {which:?}");
        println!("{:<28} found out by", "mutant");
        let mut missed = Vec::new();
        for mistake in mistakes {
            // Worlds have no servers that could be another one.
            let most = if OF_ERAS.contains(&mistake) { 0 } else { most };
            let (found, worlds) = found_out(mistake, most, until);
            let is_enough = most > 0 && found as u64 * 100 >= most;
            let cell = if is_enough { String::new() } else { cell(mistake) };
            println!("{mistake:<28} {found:>5} of {worlds:>5} worlds  {cell}");
            if !is_enough && cell.is_empty() {
                missed.push(mistake.to_string());
            }
        }
        assert!(missed.is_empty(), "not found out: {missed:?}");
    }

    /// What else notices `mistake`.
    fn cell(mistake: Mistake) -> String {
        if OF_ERAS.contains(&mistake) {
            return era::spoiled_by(mistake).unwrap_or_default().to_owned();
        }
        let cell = || matrix::cell_that_notices(mistake).map(|(row, column)| format!("{row:?} x {column:?}"));
        let writers = || writers::notice(mistake).then(|| "two writers".to_owned());
        // What takes longest last.
        let scene = scenes::spoiled_by(mistake).map(str::to_owned);
        scene.or_else(writers).or_else(cell).unwrap_or_default()
    }
}
