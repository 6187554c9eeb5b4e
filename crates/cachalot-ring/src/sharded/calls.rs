//! What a node is asked, in its own bytes.

use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use cachalot_core::{
    Backend, Depth, Enrolled, Error, ErrorKind, Expired, Held, Key, KeyPattern, LeaseBackend, LeaseReply,
    Member, MemberBackend, Nonce, Put, PutReply, Record, Removed, Result, Roll, SweepCursor, Swept,
    TagBackend, TagToken, Token, VersionBackend,
};

use super::node::Node;

impl<B: Backend> Node<B> {
    pub(super) async fn look(self: &Arc<Self>, key: &Key) -> Result<()> {
        self.ask("look", self.backend.look(&self.key(key))).await
    }

    pub(super) async fn get(self: &Arc<Self>, key: &Key) -> Result<Option<Record>> {
        self.ask("get", self.backend.get(&self.key(key))).await
    }

    pub(super) async fn get_many(self: &Arc<Self>, keys: Vec<Key>) -> Vec<Result<Option<Record>>> {
        let keys = self.keys(keys);
        self.ask_many("get_many", keys.len(), self.backend.get_many(&keys)).await
    }

    pub(super) async fn remove(self: &Arc<Self>, key: &Key) -> Result<Removed> {
        self.ask("remove", self.backend.remove(&self.key(key))).await
    }

    pub(super) async fn remove_many(self: &Arc<Self>, keys: Vec<Key>) -> Vec<Result<Removed>> {
        let keys = self.keys(keys);
        self.ask_many("remove_many", keys.len(), self.backend.remove_many(&keys)).await
    }

    pub(super) async fn sweep(self: &Arc<Self>, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        self.ask("sweep", self.backend.sweep(&self.pattern(pattern), from)).await
    }

    pub(super) async fn expire(self: &Arc<Self>, key: &Key, keep: Duration) -> Result<Expired> {
        self.ask("expire", self.backend.expire(&self.key(key), keep)).await
    }

    pub(super) async fn touch(self: &Arc<Self>, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.ask("touch", self.backend.touch(&self.key(key), nonce, ttl)).await
    }
}

impl<B: Backend> Node<B> {
    /// Each shard has what the whole says it has, or it would not be one.
    fn leases(&self) -> Result<&dyn LeaseBackend> {
        self.backend.leases().ok_or_else(|| lacking("leases"))
    }

    pub(super) async fn get_or_lease(
        self: &Arc<Self>,
        key: &Key,
        token: Token,
        term: Duration,
        refuse: Option<Nonce>,
    ) -> Result<LeaseReply> {
        let key = self.key(key);
        self.ask("get_or_lease", self.leases()?.get_or_lease(&key, token, term, refuse)).await
    }

    pub(super) async fn put_leased(self: &Arc<Self>, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.ask("put_leased", self.leases()?.put_leased(&self.key(key), token, put)).await
    }

    pub(super) async fn release(self: &Arc<Self>, key: &Key, token: Token) -> Result<bool> {
        self.ask("release", self.leases()?.release(&self.key(key), token)).await
    }

    pub(super) async fn hold(self: &Arc<Self>, key: &Key, token: Token, term: Duration) -> Result<Held> {
        self.ask("hold", self.leases()?.hold(&self.key(key), token, term)).await
    }

    pub(super) async fn put_held(self: &Arc<Self>, key: &Key, token: Token, put: Put) -> Result<PutReply> {
        self.ask("put_held", self.leases()?.put_held(&self.key(key), token, put)).await
    }
}

impl<B: Backend> Node<B> {
    fn tags(&self) -> Result<&dyn TagBackend> {
        self.backend.tags().ok_or_else(|| lacking("tags"))
    }

    pub(super) async fn tag_tokens(self: &Arc<Self>, names: Vec<Key>) -> Result<Vec<Option<TagToken>>> {
        let names = self.keys(names);
        self.ask("tag_tokens", self.tags()?.tag_tokens(&names)).await
    }

    pub(super) async fn pin_tags(
        self: &Arc<Self>,
        names: Vec<Key>,
        fresh: Vec<TagToken>,
        ttl: Duration,
    ) -> Result<Vec<TagToken>> {
        let names = self.keys(names);
        self.ask("pin_tags", self.tags()?.pin_tags(&names, &fresh, ttl)).await
    }

    pub(super) async fn rotate_tags(
        self: &Arc<Self>,
        names: Vec<Key>,
        fresh: Vec<TagToken>,
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let names = self.keys(names);
        self.ask("rotate_tags", self.tags()?.rotate_tags(&names, &fresh, depth, ttl)).await
    }
}

impl<B: Backend> Node<B> {
    fn versions(&self) -> Result<&dyn VersionBackend> {
        self.backend.versions().ok_or_else(|| lacking("versions"))
    }

    pub(super) async fn raise(self: &Arc<Self>, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        self.ask("raise", self.versions()?.raise(&self.key(name), version, ttl)).await
    }

    fn members(&self) -> Result<&dyn MemberBackend> {
        self.backend.members().ok_or_else(|| lacking("members"))
    }

    pub(super) async fn enroll(
        self: &Arc<Self>,
        registry: &Key,
        member: &Member,
        term: Duration,
    ) -> Result<Enrolled> {
        self.ask("enroll", self.members()?.enroll(&self.key(registry), member, term)).await
    }

    pub(super) async fn leave(self: &Arc<Self>, registry: &Key, member: &Member) -> Result<bool> {
        self.ask("leave", self.members()?.leave(&self.key(registry), member)).await
    }

    pub(super) async fn roll(self: &Arc<Self>, registry: &Key) -> Result<Roll> {
        self.ask("roll", self.members()?.roll(&self.key(registry))).await
    }
}

fn lacking(what: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, what).detail("this shard has none")
}
