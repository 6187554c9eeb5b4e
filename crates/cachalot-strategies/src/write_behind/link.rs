//! Writes as a journal knows them.

use std::sync::Arc;

use bytes::Bytes;
use cachalot_core::Result;

/// Turns a write into the bytes of its key and its value.
pub(super) type Encode<K, V> = Arc<dyn Fn(&K, Option<&V>) -> Result<(Bytes, Option<Bytes>)> + Send + Sync>;
