//! Values of one type to bytes and back.

use std::fmt;
use std::sync::Arc;

use cachalot_core::{Codec, Error, Result};

use super::way::{Place, Way};

/// A codec that has forgotten its own type.
pub(super) struct Coding<V>(Arc<dyn Codec<V>>);

impl<V: 'static> Coding<V> {
    pub(super) fn new(codec: impl Codec<V>) -> Self {
        Self(Arc::new(codec))
    }

    /// Appends the bytes of `value` to `out`, if all of `out` is not too large then.
    pub(super) fn encode(
        &self,
        value: &V,
        out: &mut Vec<u8>,
        way: &Way,
        operation: &'static str,
        place: &Place,
    ) -> Result<()> {
        encode(&*self.0, value, out, way, operation, place)
    }

    pub(super) fn decode(&self, bytes: &[u8], way: &Way, place: &Place) -> Result<V> {
        self.0.decode(bytes).map_err(|error| located(error, way, place))
    }
}

pub(super) fn encode<V>(
    codec: &(impl Codec<V> + ?Sized),
    value: &V,
    out: &mut Vec<u8>,
    way: &Way,
    operation: &'static str,
    place: &Place,
) -> Result<()> {
    codec.encode(value, out).map_err(|error| located(error, way, place))?;
    way.check_size(operation, place, out.len())
}

pub(super) fn located(error: Error, way: &Way, place: &Place) -> Error {
    error.key(place.key.as_bytes()).node(way.node())
}

impl<V> Clone for Coding<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> fmt::Debug for Coding<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
