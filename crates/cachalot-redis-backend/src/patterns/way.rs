//! The way to the server that has a key.

use std::time::Duration;

use cachalot_core::{Entropy, Error, ErrorKind, Key, Result};
use redis::{Cmd, Pipeline, Value};
use tokio::time::timeout;

use crate::fault::Fault;
use crate::link::{Again, Request};
use crate::name::name;
use crate::script::{By, Script};
use crate::{RedisBackend, RedisCluster};

/// By which connections.
#[derive(Clone)]
pub(super) enum Way {
    One(RedisBackend),
    Cluster(RedisCluster),
}

/// A key, and what it is called in the server.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Key,
    pub(super) name: Vec<u8>,
}

/// What some commands of a pipeline answered, each for itself. The outer fault is that of all.
pub(super) type Each = Result<Vec<Result<Value, Fault>>, Fault>;

impl Way {
    pub(super) fn place(&self, key: Key) -> Place {
        let name = name(self.key_prefix(), &key).into_owned();
        Place { key, name }
    }

    /// As [`place`](Way::place), in braces: what is called so and something more is in the same slot.
    pub(super) fn tagged_place(&self, key: Key) -> Place {
        let mut tagged = self.key_prefix().to_vec();
        tagged.push(b'{');
        for byte in &*name(b"", &key) {
            match byte {
                b'{' | b'}' | b'%' => tagged.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                byte => tagged.push(*byte),
            }
        }
        tagged.push(b'}');
        Place { key, name: tagged }
    }

    /// Sends `command`, and gives the answer.
    pub(super) async fn ask(
        &self,
        operation: &'static str,
        place: &Place,
        command: &Cmd,
        again: Again,
    ) -> Result<Value> {
        let asked = match self {
            Self::One(node) => ask(node, command, again).await,
            Self::Cluster(cluster) => {
                let ask = |node: RedisBackend| async move { ask(&node, command, again).await };
                cluster.route_name(&place.name, ask).await
            }
        };
        asked.map_err(|fault| self.error(fault, operation, place))
    }

    /// Runs `script` on `names`, the first of which is that of `place`, and all in its slot.
    pub(super) async fn run(&self, operation: &'static str, place: &Place, call: Call<'_>) -> Result<Value> {
        let ran = match self {
            Self::One(node) => run(node, place, call).await,
            Self::Cluster(cluster) => {
                let run = |node: RedisBackend| async move { run(&node, place, call).await };
                cluster.route_name(&place.name, run).await
            }
        };
        ran.map_err(|fault| self.error(fault, operation, place))
    }

    /// Sends commands about `place` in one go, and gives all answers.
    pub(super) async fn ask_all(
        &self,
        operation: &'static str,
        place: &Place,
        pipeline: &Pipeline,
        again: Again,
    ) -> Result<Vec<Value>> {
        let asked = match self {
            Self::One(node) => ask_all(node, pipeline, again).await,
            Self::Cluster(cluster) => {
                let ask = |node: RedisBackend| async move { ask_all(&node, pipeline, again).await };
                cluster.route_name(&place.name, ask).await
            }
        };
        asked.map_err(|fault| self.error(fault, operation, place))
    }

    /// Sends commands about `place`, of which the last may wait in the server for `wait`, on a connection of its own.
    pub(super) async fn wait(
        &self,
        operation: &'static str,
        place: &Place,
        pipeline: &Pipeline,
        wait: Duration,
    ) -> Result<Vec<Value>> {
        let asked = match self {
            Self::One(node) => wait_in(node, pipeline, wait).await,
            Self::Cluster(cluster) => {
                let ask = |node: RedisBackend| async move { wait_in(&node, pipeline, wait).await };
                cluster.route_waiting(&place.name, wait, ask).await
            }
        };
        asked.map_err(|fault| self.error(fault, operation, place))
    }

    /// Sends the command of each of `keys`, those of a node in one go; the outcomes in the order of `keys`.
    pub(super) async fn each(
        &self,
        keys: &[Key],
        command: impl Fn(&RedisBackend, &Key) -> Cmd + Send + Sync,
        again: Again,
    ) -> Vec<Result<Value, Fault>> {
        let command = &command;
        let all = |node: RedisBackend, keys: Vec<Key>| async move {
            ask_each(&node, keys.iter().map(|key| command(&node, key)).collect(), again).await
        };
        match self {
            Self::One(node) => all(node.clone(), keys.to_vec())
                .await
                .unwrap_or_else(|fault| keys.iter().map(|_| Err(fault.clone())).collect()),
            Self::Cluster(cluster) => {
                let one = |node: RedisBackend, key: Key| async move {
                    ask(&node, &command(&node, &key), again).await
                };
                cluster.each_key(keys, all, one).await
            }
        }
    }

    pub(super) fn error(&self, fault: Fault, operation: &'static str, place: &Place) -> Error {
        fault.about(operation, self.node(), &place.key)
    }

    /// Refuses what is too large, before anything is sent.
    pub(super) fn check_size(&self, operation: &'static str, place: &Place, size: usize) -> Result<()> {
        let most = self.max_payload();
        if size <= most {
            return Ok(());
        }
        let detail = format!("a value of {size} bytes exceeds the limit of {most}");
        Err(Error::new(ErrorKind::Config, operation)
            .detail(detail)
            .key(place.key.as_bytes())
            .node(self.node()))
    }

    pub(super) fn node(&self) -> &str {
        match self {
            Self::One(node) => node.node(),
            Self::Cluster(cluster) => cluster.node(),
        }
    }

    pub(super) fn entropy(&self) -> &Entropy {
        match self {
            Self::One(node) => &node.blocking().setup().entropy,
            Self::Cluster(cluster) => cluster.entropy(),
        }
    }

    fn key_prefix(&self) -> &[u8] {
        match self {
            Self::One(node) => node.key_prefix(),
            Self::Cluster(cluster) => cluster.key_prefix(),
        }
    }

    fn max_payload(&self) -> usize {
        match self {
            Self::One(node) => node.max_payload(),
            Self::Cluster(cluster) => cluster.max_payload(),
        }
    }
}

/// A script with what it is given.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    /// Names beside that of the place.
    pub(super) others: &'a [&'a [u8]],
    pub(super) arguments: &'a [&'a [u8]],
    pub(super) again: Again,
}

impl<'a> Call<'a> {
    /// Of a script about one key, which is not sent twice.
    pub(super) fn new(script: &'a Script, arguments: &'a [&'a [u8]]) -> Self {
        Self { script, others: &[], arguments, again: Again::Never }
    }

    /// May be sent twice.
    pub(super) fn again(self) -> Self {
        Self { again: Again::Once, ..self }
    }

    pub(super) fn others(self, others: &'a [&'a [u8]]) -> Self {
        Self { others, ..self }
    }
}

async fn ask(node: &RedisBackend, command: &Cmd, again: Again) -> Result<Value, Fault> {
    let answer = node.link_aside().send(Request::One(command), again).await?;
    Ok(answer.value.extract_error()?)
}

async fn run(node: &RedisBackend, place: &Place, call: Call<'_>) -> Result<Value, Fault> {
    let link = node.link_aside();
    let names: Vec<&[u8]> = [&*place.name].into_iter().chain(call.others.iter().copied()).collect();
    let run = async |by| {
        let command = call.script.command(by, &names, call.arguments);
        let answer = link.exchange(Request::One(&command), call.again).await?;
        Ok(answer.value.extract_error()?)
    };
    let work = async {
        match run(By::Hash).await {
            Err(Fault::NoScript) => run(By::Text).await,
            outcome => outcome,
        }
    };
    link.within_deadline(work).await
}

async fn ask_all(node: &RedisBackend, pipeline: &Pipeline, again: Again) -> Result<Vec<Value>, Fault> {
    let answer = node.link_aside().send(Request::Many(pipeline), again).await?;
    whole(answer.into_list()?, pipeline)
}

async fn wait_in(node: &RedisBackend, pipeline: &Pipeline, wait: Duration) -> Result<Vec<Value>, Fault> {
    let time = wait.saturating_add(node.blocking().setup().deadline);
    let work = async {
        // Knows at once of a server that is away, and when to try it again.
        node.link_aside().connect().await?;
        node.blocking().ask(pipeline, wait).await
    };
    whole(timeout(time, work).await.map_err(|_| Fault::Timeout(time))??, pipeline)
}

/// All answers, or the first that is an error.
fn whole(values: Vec<Value>, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
    if values.len() != pipeline.len() {
        return Err(Fault::Garbled("a pipeline answered for other commands"));
    }
    values.into_iter().map(|value| Ok(value.extract_error()?)).collect()
}

async fn ask_each(node: &RedisBackend, commands: Vec<Cmd>, again: Again) -> Each {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    let answer = node.link_aside().send(Request::Many(&pipeline), again).await?;
    let values = answer.into_list()?;
    if values.len() != pipeline.len() {
        return Err(Fault::Garbled("a pipeline answered for other commands"));
    }
    Ok(values.into_iter().map(|value| Ok(value.extract_error()?)).collect())
}
