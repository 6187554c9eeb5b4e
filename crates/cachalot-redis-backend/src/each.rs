//! Reading many keys one by one, in one go: on a cluster no command has keys of two slots.

use cachalot_core::{Key, Record, TagToken};
use redis::{Cmd, Pipeline, Value};

use crate::RedisBackend;
use crate::fault::Fault;
use crate::link::{Again, Link, Request};
use crate::record;
use crate::tags::token_in;

/// What was found under each of some keys.
type Each<T> = Vec<Result<Option<T>, Fault>>;

impl RedisBackend {
    /// The record under `key`, by a command of its own.
    pub(crate) async fn try_get(&self, key: &Key) -> Result<Option<Record>, Fault> {
        let mut command = Cmd::new();
        command.arg("GET").arg(&*self.name(key));
        let answer = self.link_for_reads().send(Request::One(&command), Again::Once).await?;
        let (now_ms, era) = (answer.now_ms, answer.era());
        Ok(bytes(answer.value)?.and_then(|bytes| record::decode(bytes, now_ms, era)))
    }

    /// The records under `keys`. The outer fault is all keys' fault.
    pub(crate) async fn try_get_each(&self, keys: &[Key]) -> Result<Each<Record>, Fault> {
        let answer = self.ask_each(self.link_aside(), keys).await?;
        let (now_ms, era) = (answer.now_ms, answer.era());
        let record = |value| Ok(bytes(value)?.and_then(|bytes| record::decode(bytes, now_ms, era)));
        Ok(answer.into_list()?.into_iter().map(record).collect())
    }

    /// The tokens under `names`. The outer fault is all names' fault.
    pub(crate) async fn try_tokens_each(&self, names: &[Key]) -> Result<Each<TagToken>, Fault> {
        let answer = self.ask_each(self.link_for_reads(), names).await?;
        let era = answer.era();
        let token =
            |value: Value| Ok(bytes(value)?.and_then(|bytes| token_in(era, Value::BulkString(bytes))));
        Ok(answer.into_list()?.into_iter().map(token).collect())
    }

    async fn ask_each(&self, link: &Link, keys: &[Key]) -> Result<crate::link::Answer, Fault> {
        let mut pipeline = Pipeline::with_capacity(keys.len());
        for key in keys {
            pipeline.cmd("GET").arg(&*self.name(key));
        }
        let answer = link.send(Request::Many(&pipeline), Again::Once).await?;
        match &answer.value {
            Value::Array(values) if values.len() == keys.len() => Ok(answer),
            _ => Err(Fault::Garbled("a pipeline answered for other commands")),
        }
    }
}

/// The bytes of one value; `None` if there are none, or another type.
fn bytes(value: Value) -> Result<Option<Vec<u8>>, Fault> {
    match value.extract_error().map_err(Fault::from) {
        Ok(Value::BulkString(bytes)) => Ok(Some(bytes)),
        Ok(Value::Nil) | Err(Fault::OtherType) => Ok(None),
        Ok(_) => Err(Fault::Garbled("GET answered no string")),
        Err(fault) => Err(fault),
    }
}
