//! The bus of the layout.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cachalot_core::{Bus, BusInfo, Message, Result, Subscription};
use redis::Pipeline;

use super::notice;
use crate::bus::{Parts, Publisher, subscription};

/// The bus of the layout `plain`: JSON objects with one of `key`, `pattern` and `tag` on a Pub/Sub channel, which
/// services in other languages send and hear too. Made by [`PlainBuilder::bus`](crate::PlainBuilder::bus).
///
/// # What cannot be noticed
/// A message bears no number and no sender, and nobody says that he is alive. Each confirmed subscription, the first
/// or a renewed one, is a gap: nothing in memory from before is trusted. What is lost in between, because a foreigner
/// did not get to publish, cannot be noticed; so memory keeps copies for
/// 10 s, unless the cache is told otherwise. A text that makes no sense is a gap too.
///
/// # What is not told
/// Heartbeats, acknowledgements and the end of leases are not sent: others would not know what to do with them. Nor
/// that an invalidation is still pending in the server; the message comes a second time once it is done. A cache
/// hears its own messages, as all others: what it has just stored it then reads from the server once more.
pub struct PlainBus {
    parts: Parts,
    publisher: Publisher,
    key_prefix: Arc<[u8]>,
}

impl PlainBus {
    pub(super) fn new(parts: Parts, key_prefix: Vec<u8>) -> Self {
        Self { publisher: Publisher::new(&parts), parts, key_prefix: key_prefix.into() }
    }
}

impl fmt::Debug for PlainBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channel = self.parts.name.escape_ascii().to_string();
        f.debug_struct("PlainBus").field("node", &self.parts.node).field("channel", &channel).finish()
    }
}

#[async_trait]
impl Bus for PlainBus {
    fn info(&self) -> BusInfo {
        BusInfo::new("redis plain", &*self.parts.node)
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        message.check()?;
        let texts = notice::texts(message, &self.key_prefix);
        if texts.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(texts.len());
        for text in texts {
            pipeline.cmd("PUBLISH").arg(&*self.parts.name).arg(text);
        }
        self.publisher.send_all(&pipeline, "redis plain publish").await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        let key_prefix = self.key_prefix.clone();
        Ok(subscription(&self.parts, Arc::new(move |bytes| notice::hear(&bytes, &key_prefix))))
    }
}
