//! The backend: the floors of versions, a string of 8 bytes each.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Key, Result, VersionBackend};

use crate::RedisBackend;
use crate::backend::millis;
use crate::fault::Fault;
use crate::link::Again;
use crate::reply::Reply;
use crate::script::{self, Argument};

#[async_trait]
impl VersionBackend for RedisBackend {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let raised = self.try_raise(name, version, ttl).await;
        raised.map_err(|fault| self.error(fault, "redis raise", name))
    }
}

impl RedisBackend {
    pub(crate) async fn try_raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64, Fault> {
        let (version, ttl) = (version.to_be_bytes(), millis(ttl).max(1).to_string());
        let arguments = [&version[..], ttl.as_bytes()].map(Argument::Bytes);
        self.run(&script::RAISE, name, &arguments, Again::Once).await.and_then(floor)
    }
}

fn floor(mut reply: Reply) -> Result<u64, Fault> {
    let bytes = reply.bytes().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    bytes.map(u64::from_be_bytes).ok_or(Fault::Garbled("a floor that is no version"))
}
