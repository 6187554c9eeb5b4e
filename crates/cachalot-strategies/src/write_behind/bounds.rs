//! What keys and values are to be, by one name each.

use std::hash::Hash;

pub(super) trait Key: Hash + Eq + Clone + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

pub(super) trait Value: Send + Sync + 'static {}

impl<V: Send + Sync + 'static> Value for V {}
