//! Deliberate mistakes, which prove that the tests bite. They exist only in a build with
//! `--cfg cachalot_mutants`, and each is chosen at run time; in any other build [`mutant!`](crate::mutant)
//! is `false`, and nothing of them is left.

#[cfg(cachalot_mutants)]
mod chosen;
#[cfg(cachalot_mutants)]
pub use chosen::{Mutant, is_active, under};

/// Whether the mistake `$name` is to be made here.
#[doc(hidden)]
#[macro_export]
#[cfg(cachalot_mutants)]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_active($crate::mutants::Mutant::$name)
    };
}

/// Whether the mistake `$name` is to be made here: never in this build.
#[doc(hidden)]
#[macro_export]
#[cfg(not(cachalot_mutants))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}
