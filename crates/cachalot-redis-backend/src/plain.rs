//! The layout `plain`: values, locks, tags and messages as the common recipe of other languages has them.

use std::fmt;
use std::time::Duration;

use cachalot_core::Result;

use crate::Recovery;
use crate::config::{RedisBuilder, config};

mod backend;
pub use backend::PlainBackend;
mod bus;
pub use bus::PlainBus;
mod lease;
mod names;
mod notice;
mod script;
mod sweep;
mod tags;
mod value;

/// How a [`PlainBackend`] writes values. It reads all of them, whatever it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlainForm {
    /// The JSON of the value alone, with a time to live of its TTL: when it is no longer fresh it is gone, so there
    /// is nothing to be served stale. The default.
    #[default]
    Bare,
    /// `{"value": …, "_expiry": …, "_delta": …}`: when its TTL ends, in unix seconds, and what its load took, in
    /// seconds, for readers that refresh early by chance (XFetch). It is kept for as long as it may be served stale.
    Early,
    /// `{"value": …, "_fresh": …}`: until when it is fresh, in unix seconds. It is kept for as long as it may be
    /// served stale.
    Stale,
}

/// Settings of the layout `plain`, from [`RedisBuilder::plain`]: of a [`PlainBackend`], and of a [`PlainBus`] beside
/// it.
#[derive(Clone)]
#[must_use = "settings do nothing until connected"]
pub struct PlainBuilder {
    redis: RedisBuilder,
    form: PlainForm,
    channel: String,
}

impl PlainBuilder {
    pub(crate) fn new(redis: RedisBuilder) -> Self {
        Self { redis, form: PlainForm::default(), channel: String::from("cache:invalidate") }
    }

    /// How values are written. Default: [`PlainForm::Bare`].
    pub fn form(mut self, form: PlainForm) -> Self {
        self.form = form;
        self
    }

    /// The channel on which invalidations are told. Default `cache:invalidate`; a key prefix is not part of it.
    pub fn channel(mut self, name: impl Into<String>) -> Self {
        self.channel = name.into();
        self
    }

    /// Connects, and fails if the server cannot be reached, as [`RedisBuilder::connect`].
    ///
    /// # Errors
    /// As [`RedisBuilder::connect`].
    pub async fn connect(self) -> Result<PlainBackend> {
        let backend = self.connect_lazy()?;
        backend.reach().await?;
        Ok(backend)
    }

    /// The backend without a connection: the first command makes it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cachalot_core::ErrorKind::Config) if a setting is not acceptable, as is another
    /// [`Recovery`] than [`Recovery::Replay`].
    pub fn connect_lazy(self) -> Result<PlainBackend> {
        if self.redis.recovery_wanted() != Recovery::Replay {
            return Err(config("values of the layout `plain` cannot say of which era they are"));
        }
        let (setup, node) = self.redis.setup(Recovery::Replay)?;
        let limits = self.redis.limits();
        Ok(PlainBackend::new(setup, self.redis.connection_count(), limits, self.form, node))
    }

    /// The bus of the layout, with connections of its own.
    ///
    /// # Errors
    /// As [`connect_lazy`](PlainBuilder::connect_lazy), or the channel has no name.
    pub fn bus(self) -> Result<PlainBus> {
        if self.channel.is_empty() {
            return Err(config("the channel has no name"));
        }
        let key_prefix = self.redis.limits().key_prefix;
        let parts = self.redis.bus().parts_of_channel(&self.channel)?;
        Ok(PlainBus::new(parts, key_prefix))
    }
}

impl fmt::Debug for PlainBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainBuilder")
            .field("redis", &self.redis)
            .field("form", &self.form)
            .field("channel", &self.channel)
            .finish()
    }
}

/// The longest time that is counted, ms, as in the scripts; it stands for "for ever".
const EVER_MS: u64 = 1 << 50;

fn duration(millis: u64) -> Duration {
    if millis >= EVER_MS { Duration::MAX } else { Duration::from_millis(millis) }
}
