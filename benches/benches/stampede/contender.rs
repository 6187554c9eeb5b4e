//! What every cache is asked to do, and the source they load from.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use benches::bytes;
use tokio::sync::watch;
use tokio::time::sleep;

/// A cache that gets a value or loads it, in the settings its users would choose for that.
pub(crate) trait Contender: Clone + Send + Sync + 'static {
    /// What a caller gets.
    type Given: Send;

    /// An empty one with room for every hot key.
    fn open() -> Self;

    /// The value of `key`, by `loader` if it is not there.
    fn get_or_load(
        &self,
        key: u64,
        loader: &Loader,
    ) -> impl Future<Output = Result<Self::Given, Failed>> + Send;
}

/// One that can be written to beside its loads.
pub(crate) trait Writable: Contender {
    /// Forgets `key`.
    fn remove(&self, key: u64) -> impl Future<Output = ()> + Send;

    /// Stores `bytes` under `key`.
    fn insert(&self, key: u64, bytes: [u8; 64]) -> impl Future<Output = ()> + Send;

    /// What a caller got.
    fn bytes(given: &Self::Given) -> [u8; 64];
}

/// The way to the source of the values. Counts how often it is taken.
#[derive(Clone)]
pub(crate) struct Loader(Arc<Source>);

struct Source {
    calls: AtomicUsize,
    pace: Pace,
    end: End,
}

/// What a load comes to.
enum End {
    Value,
    Failure,
    Panic,
}

/// How long a load takes.
enum Pace {
    AtOnce,
    Lasting(Duration),
    /// Until the gate is opened.
    Gated(watch::Receiver<bool>),
}

impl Loader {
    /// One that takes no time.
    pub(crate) fn instant() -> Self {
        Self::new(Pace::AtOnce, End::Value)
    }

    /// One that takes this long.
    pub(crate) fn lasting(time: Duration) -> Self {
        Self::new(Pace::Lasting(time), End::Value)
    }

    /// One that fails after this long.
    pub(crate) fn failing(time: Duration) -> Self {
        Self::new(Pace::Lasting(time), End::Failure)
    }

    /// One that panics.
    pub(crate) fn panicking() -> Self {
        Self::new(Pace::AtOnce, End::Panic)
    }

    /// One that waits until `true` is sent.
    pub(crate) fn gated() -> (watch::Sender<bool>, Self) {
        let (gate, opened) = watch::channel(false);
        (gate, Self::new(Pace::Gated(opened), End::Value))
    }

    fn new(pace: Pace, end: End) -> Self {
        Self(Arc::new(Source { calls: AtomicUsize::new(0), pace, end }))
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Loads the value of `key`.
    pub(crate) async fn bytes(&self, key: u64) -> Result<[u8; 64], Failed> {
        self.run().await.map(|()| bytes(key))
    }

    async fn run(&self) -> Result<(), Failed> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        match &self.0.pace {
            Pace::AtOnce => {}
            Pace::Lasting(time) => sleep(*time).await,
            Pace::Gated(opened) => {
                opened.clone().wait_for(|open| *open).await.map_err(|_| Failed)?;
            }
        }
        match self.0.end {
            End::Value => Ok(()),
            End::Failure => Err(Failed),
            End::Panic => panic!("as it was told"),
        }
    }
}

/// The error of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source failed")
    }
}

impl Error for Failed {}
