//! Floors of versions: each where its key lies, so that both are away together.

use std::borrow::Cow;
use std::boxed::Box;
use std::time::Duration;
use std::vec::Vec;

use async_trait::async_trait;
use cachalot_core::{Backend, Key, Result, VersionBackend};

use super::Sharded;
use super::routes::nobody;
use super::topology::Few;

#[async_trait]
impl<B: Backend> VersionBackend for Sharded<B> {
    /// Raised everywhere, read at one, unless there was another ring before: whoever asks any of them later knows of it.
    /// What one knows and others do not, is told to those in a second round.
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let (view, ttl, key) = (self.view(), self.life(ttl), key_of(name));
        if version == 0 && view.has_one_ring() {
            let copy = self.copies(&view, &key).nodes.iter().next();
            let copy = copy.ok_or_else(|| nobody("raise").key(name.as_bytes()))?;
            return view.node(copy).raise(name, version, ttl).await;
        }
        let takers = self.takers(&view, &key);
        let raised = self.at_each(&view, &takers, |_, node| node.raise(name, version, ttl)).await;
        let raised: Vec<u64> = raised.into_iter().collect::<Result<_>>()?;
        let highest = raised.iter().copied().max().ok_or_else(|| nobody("raise").key(name.as_bytes()))?;
        if version > 0 && highest > version {
            let behind = takers.iter().zip(&raised).filter(|(_, before)| **before < highest);
            let behind = behind.fold(Few::default(), |behind, (node, _)| behind.and(node));
            let again = self.at_each(&view, &behind, |_, node| node.raise(name, highest, ttl)).await;
            return Ok(again.into_iter().collect::<Result<Vec<u64>>>()?.into_iter().fold(highest, u64::max));
        }
        Ok(highest)
    }
}

/// The key that a floor is of: `users:7` of `users^7`. Any other name stands for itself.
fn key_of(floor: &Key) -> Cow<'_, Key> {
    let at = floor.as_bytes().iter().position(|byte| matches!(byte, b'^' | b':'));
    match at.filter(|at| floor.as_bytes()[*at] == b'^') {
        Some(at) => {
            let mut key = floor.as_bytes().to_vec();
            key[at] = b':';
            Cow::Owned(Key::new(key))
        }
        None => Cow::Borrowed(floor),
    }
}
