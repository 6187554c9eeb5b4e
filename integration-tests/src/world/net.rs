//! The way of a process to the shared tier: a command is on its own once it has been sent.

use std::fmt::Debug;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, BoxFuture, Depth, Entropy, Error, ErrorKind, Expired, Held, Key, KeyPattern,
    LeaseBackend, LeaseReply, MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, SweepCursor,
    Swept, TagBackend, TagToken, Token,
};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::chronicle::Chronicle;
use super::life::{Act, Life};
use super::log::Log;
use super::routes::Routes;

/// A shard of the shared tier as one process reaches it.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) server: Arc<dyn Backend>,
    /// Its number.
    pub(super) shard: usize,
    pub(super) routes: Arc<Routes>,
    pub(super) life: Life,
    pub(super) log: Log,
    pub(super) chronicle: Chronicle,
}

/// What becomes of one command.
#[derive(Clone, Copy, Debug)]
struct Fate {
    is_refused: bool,
    loses_answer: bool,
    there: Duration,
    back: Duration,
}

/// How long a process waits for an answer.
const DEADLINE: Duration = Duration::from_millis(60);
/// The longest way there, and back, of all commands of an action: who is slow is overtaken.
const WAYS: [u64; 3] = [2, 8, 28];
/// How late a command may land.
const LATE: u64 = 1_500;

impl Fate {
    fn draw(lots: &Entropy, way: u64) -> Self {
        let draw = |below: u64| lots.draw_u64() % below;
        let fate = draw(100);
        let (there, back, late) = (draw(way), draw(way), draw(LATE));
        Self {
            is_refused: fate < 6,
            loses_answer: (6..9).contains(&fate),
            there: Duration::from_millis(if (9..13).contains(&fate) { there + late } else { there }),
            back: Duration::from_millis(back),
        }
    }

    const CALM: Self =
        Self { is_refused: false, loses_answer: false, there: Duration::ZERO, back: Duration::ZERO };
}

type Work<T> = BoxFuture<'static, Result<T>>;

/// What a command is.
#[derive(Clone, Debug)]
struct Command {
    name: &'static str,
    /// Of what it ends, once it has landed, whatever was there. Nothing: it reads or stores.
    ends: Vec<Key>,
}

fn plain(name: &'static str) -> Command {
    Command { name, ends: Vec::new() }
}

/// One that ends whatever there is of `ends`.
fn end(name: &'static str, ends: &[Key]) -> Command {
    Command { name, ends: ends.to_vec() }
}

impl Net {
    async fn call<T>(&self, command: Command, work: impl FnOnce(Arc<dyn Backend>) -> Work<T>) -> Result<T>
    where
        T: Debug + Send + 'static,
    {
        let (act, shard, Command { name, ends }) = (Act::current(), self.shard, command);
        self.life.step().await;
        let fate = if act.is_calm() { Fate::CALM } else { Fate::draw(&act.lots, WAYS[act.pace]) };
        if fate.is_refused || self.life.is_cut_off(shard) {
            self.log.note(format_args!("#{} {name} to {shard} is refused", act.id));
            sleep(fate.there.min(DEADLINE)).await;
            return Err(Error::new(ErrorKind::Unavailable, name));
        }
        let (answer, answered) = oneshot::channel();
        let (chronicle, routes) = (self.chronicle.clone(), self.routes.clone());
        let doing = act.clone();
        let (work, life, log, id) = (work(self.server.clone()), self.life.clone(), self.log.clone(), act.id);
        tokio::spawn(async move {
            sleep(fate.there).await;
            let result = work.await;
            log.note(format_args!("#{id} {name} lands at {shard}: {result:?}"));
            if result.is_ok() && !ends.is_empty() {
                chronicle.landed(&doing.has_ended(&ends, shard, &routes));
            }
            sleep(fate.back).await;
            if !fate.loses_answer && !life.is_cut_off(shard) {
                // Nobody may wait any more.
                let _ = answer.send(result);
            }
        });
        let result = match timeout(DEADLINE, answered).await {
            Ok(Ok(result)) => result,
            _ => {
                self.log.note(format_args!("#{id} {name} has no answer from {shard}"));
                Err(Error::new(ErrorKind::Timeout, name))
            }
        };
        self.life.step().await;
        result
    }

    async fn call_many<T>(
        &self,
        command: Command,
        keys: usize,
        work: impl FnOnce(Arc<dyn Backend>) -> BoxFuture<'static, Vec<Result<T>>>,
    ) -> Vec<Result<T>>
    where
        T: Debug + Send + 'static,
    {
        let call = self.call(command, |server| {
            let work = work(server);
            Box::pin(async move { Ok(work.await) })
        });
        match call.await {
            Ok(results) => results,
            Err(error) => (0..keys).map(|_| Err(error.clone())).collect(),
        }
    }
}

/// The leases of a server that has some.
fn leases(server: &Arc<dyn Backend>) -> &dyn LeaseBackend {
    server.leases().expect("a server with leases")
}

#[async_trait]
impl Backend for Net {
    fn info(&self) -> BackendInfo {
        self.server.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        let key = key.clone();
        self.call(plain("get"), |server| Box::pin(async move { server.get(&key).await })).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let many = keys.to_vec();
        let work = |server: Arc<dyn Backend>| -> BoxFuture<'static, _> {
            Box::pin(async move { server.get_many(&many).await })
        };
        self.call_many(plain("get_many"), keys.len(), work).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        let (key, command) = (key.clone(), end("remove", slice::from_ref(key)));
        self.call(command, |server| Box::pin(async move { server.remove(&key).await })).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        let many = keys.to_vec();
        let work = |server: Arc<dyn Backend>| -> BoxFuture<'static, _> {
            Box::pin(async move { server.remove_many(&many).await })
        };
        self.call_many(end("remove_many", keys), keys.len(), work).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let (pattern, from) = (pattern.clone(), from.clone());
        self.call(plain("sweep"), |server| Box::pin(async move { server.sweep(&pattern, &from).await })).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        let (key, command) = (key.clone(), end("expire", slice::from_ref(key)));
        self.call(command, |server| Box::pin(async move { server.expire(&key, keep).await })).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        let key = key.clone();
        self.call(plain("touch"), |server| Box::pin(async move { server.touch(&key, nonce, ttl).await }))
            .await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        Some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        Some(self)
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        // No cache of a world waits for the others.
        None
    }

    fn incarnation(&self) -> u64 {
        self.server.incarnation()
    }
}

/// The tags of a server that has some.
fn tags(server: &Arc<dyn Backend>) -> &dyn TagBackend {
    server.tags().expect("a server with tags")
}

#[async_trait]
impl TagBackend for Net {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        let names = names.to_vec();
        let work = |server: Arc<dyn Backend>| -> Work<Vec<Option<TagToken>>> {
            Box::pin(async move { tags(&server).tag_tokens(&names).await })
        };
        self.call(plain("tag_tokens"), work).await
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        let (names, fresh) = (names.to_vec(), fresh.to_vec());
        let work = |server: Arc<dyn Backend>| -> Work<Vec<TagToken>> {
            Box::pin(async move { tags(&server).pin_tags(&names, &fresh, ttl).await })
        };
        self.call(plain("pin_tags"), work).await
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let command = end("rotate_tags", names);
        let (names, fresh) = (names.to_vec(), fresh.to_vec());
        let work = |server: Arc<dyn Backend>| -> Work<()> {
            Box::pin(async move { tags(&server).rotate_tags(&names, &fresh, depth, ttl).await })
        };
        self.call(command, work).await
    }
}

#[async_trait]
impl LeaseBackend for Net {
    async fn get_or_lease(
        &self,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let key = key.clone();
        let work = |server: Arc<dyn Backend>| -> Work<LeaseReply> {
            Box::pin(async move { leases(&server).get_or_lease(&key, token, term, refuse).await })
        };
        self.call(plain("get_or_lease"), work).await
    }

    async fn put_leased(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let key = key.clone();
        let work = |server: Arc<dyn Backend>| -> Work<PutReply> {
            Box::pin(async move { leases(&server).put_leased(&key, token, put).await })
        };
        self.call(plain("put_leased"), work).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<bool> {
        let key = key.clone();
        let work = |server: Arc<dyn Backend>| -> Work<bool> {
            Box::pin(async move { leases(&server).release(&key, token).await })
        };
        self.call(plain("release"), work).await
    }

    async fn hold(&self, key: &Key, token: Token, term: Duration) -> Result<Held> {
        let command = end("hold", slice::from_ref(key));
        let (key, act, net) = (key.clone(), Act::current(), self.clone());
        let work = |server: Arc<dyn Backend>| -> Work<Held> {
            Box::pin(async move {
                let held = leases(&server).hold(&key, token, term).await;
                act.has_held(&key, token, net.shard, &net.routes, net.chronicle.now());
                held
            })
        };
        self.call(command, work).await
    }

    async fn put_held(&self, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        let key = key.clone();
        let work = |server: Arc<dyn Backend>| -> Work<PutReply> {
            Box::pin(async move { leases(&server).put_held(&key, token, put).await })
        };
        self.call(plain("put_held"), work).await
    }
}
