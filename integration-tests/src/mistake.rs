//! Deliberate mistakes, in the engine and in its tiers, which worlds and matrix must find.

use std::fmt;
use std::sync::Arc;

use cachalot::{Entry, Memory};
use cachalot_core::Backend;
#[cfg(cachalot_mutants)]
use cachalot_core::mutants::{self, Mutant};
use cachalot_testkit::ModelBackend;
use cachalot_testkit::broken::{BrokenBackend, Defect};

use crate::{Lapse, Lapsed, Plan, Report, Server, Unfenced, live};

type Engine = Memory<u64, Arc<Entry<String>>>;

/// One mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// In the engine.
    #[cfg(cachalot_mutants)]
    Engine(Mutant),
    /// A sentence of the backend's contract is broken.
    Backend(Defect),
    /// The shared tier breaks the protocol as a whole.
    Tier(Lapse),
    /// Fences of memory hold nobody back.
    Unfenced,
}

/// Defects of a backend that can break the promise; what they cost otherwise is the testkit's affair.
const DEFECTS: [Defect; 8] = [
    Defect::IgnoresTheToken,
    Defect::StoresOnAbsent,
    Defect::AcceptsAnEarlierToken,
    Defect::StoresOverAnyValue,
    Defect::RemovesWithoutRevoking,
    Defect::RemovesOnlyWhatIsStored,
    Defect::ExpiresWithoutAMark,
    Defect::ExpiresWithoutRevoking,
];

impl Mistake {
    /// All that this build can make: those of the engine only with `--cfg cachalot_mutants`.
    pub fn all() -> Vec<Self> {
        let mut all = Self::of_engine();
        all.extend(Self::of_tiers());
        all
    }

    /// Those of a shared tier, and of memory.
    pub fn of_tiers() -> Vec<Self> {
        let mut all = vec![Self::Unfenced];
        all.extend(DEFECTS.map(Self::Backend));
        all.extend(Lapse::ALL.map(Self::Tier));
        all
    }

    /// Those of the engine.
    #[cfg(cachalot_mutants)]
    pub fn of_engine() -> Vec<Self> {
        Mutant::ALL.iter().copied().map(Self::Engine).collect()
    }

    /// Those of the engine: none in this build.
    #[cfg(not(cachalot_mutants))]
    pub fn of_engine() -> Vec<Self> {
        Vec::new()
    }

    /// Lives through `plan` with this mistake in every process, or in the shared tier.
    pub fn live(self, plan: &Plan, is_traced: bool) -> Report {
        let server = |clock| Server::model(clock, |model| self.spoil(model));
        self.under(|| match self {
            Self::Unfenced => live::<Unfenced<Engine>>(plan, is_traced, server),
            _ => live::<Engine>(plan, is_traced, server),
        })
    }

    /// Does `work` with this mistake in the engine, if that is where it is.
    pub fn under<R>(self, work: impl FnOnce() -> R) -> R {
        match self {
            #[cfg(cachalot_mutants)]
            Self::Engine(mutant) => mutants::under(Some(mutant), work),
            _ => work(),
        }
    }

    /// The shared tier with this mistake, if that is where it is.
    pub fn spoil(self, model: ModelBackend) -> Arc<dyn Backend> {
        match self {
            Self::Backend(defect) => Arc::new(BrokenBackend::new(model, defect)),
            Self::Tier(lapse) => Arc::new(Lapsed::new(model, lapse)),
            _ => Arc::new(model),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(cachalot_mutants)]
            Self::Engine(mutant) => f.pad(&format!("{mutant:?}")),
            Self::Backend(defect) => f.pad(&format!("{defect:?}")),
            Self::Tier(lapse) => f.pad(&format!("{lapse:?}")),
            Self::Unfenced => f.pad("Unfenced"),
        }
    }
}
