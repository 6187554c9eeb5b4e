//! Background work on tokio: as the flights do it.

pub use cachalot_stampede::TokioSpawn;
