//! Eras: what a server has from before it forgot something is not read, stored under, or matched again.

use std::time::Duration;

use cachalot_core::{
    Backend, Depth, Entropy, ErrorKind, Held, Holder, Key, LeaseBackend, LeaseReply, Namespace, Pattern,
    PutReply, SweepCursor, TagBackend, TagToken,
};
use cachalot_redis_backend::{Recovery, RedisBackend};
use cachalot_testkit::RedisServer;
use tokio::time::{sleep, timeout};

use crate::support::{Fixture, TERM, TTL, connect, is_lease, patient, put, put_for, raw, stale, token};

const AGES: Duration = Duration::from_secs(60);

/// A server that keeps what `SAVE` writes, and whose replicas need not wait.
fn server() -> RedisServer {
    RedisServer::start_with(["--save", "3600 100000", "--repl-diskless-sync-delay", "0"])
}

/// Such a server and a backend that asks for eras.
async fn strict() -> Fixture {
    let server = server();
    let backend = patient(server.url()).recovery(Recovery::Era).connect().await.unwrap();
    Fixture { backend, server, key: Key::new("users:1") }
}

fn save(f: &Fixture) {
    redis::cmd("SAVE").exec(&mut f.raw()).unwrap();
}

impl Fixture {
    /// The server dies and comes back with what it had at the last `save`.
    async fn back_to_the_snapshot(&self) {
        self.server.restart();
        self.reached().await;
    }

    async fn reached(&self) {
        let work = async {
            while self.backend.get(&self.key).await.is_err()
                || self.backend.touch(&self.key, put("").nonce, TTL).await.is_err()
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(AGES, work).await.expect("it did not recover");
    }

    fn exists(&self) -> bool {
        redis::cmd("EXISTS").arg(self.key.as_bytes()).query(&mut self.raw()).unwrap()
    }
}

#[tokio::test]
async fn within_an_era_nothing_is_different() {
    let f = strict().await;
    let nonce = f.store("v1").await;
    for record in [f.read().await, f.read_by_batch().await] {
        assert_eq!(&record.unwrap().payload[..], b"v1");
    }
    assert!(matches!(f.lease(token()).await, LeaseReply::Hit(_)));
    assert_eq!(&stale(f.lease_refusing(token(), Some(nonce)).await).unwrap().payload[..], b"v1");
    assert!(f.backend.touch(&f.key, nonce, TTL * 2).await.unwrap());
    let name = Key::new("users#all");
    let [one, two] = [0, 1].map(|_| TagToken::draw(&Entropy::thread()));
    let names = std::slice::from_ref(&name);
    assert_eq!(f.backend.pin_tags(names, &[one], TTL).await.unwrap(), [one]);
    assert_eq!(f.backend.pin_tags(names, &[two], TTL).await.unwrap(), [one]);
    f.backend.rotate_tags(names, &[two], Depth::Expire, TTL).await.unwrap();
    let expired = TagToken { removed: one.removed, expired: two.expired };
    assert_eq!(f.backend.tag_tokens(names).await.unwrap(), [Some(expired)]);
    f.backend.rotate_tags(names, &[two], Depth::Remove, TTL).await.unwrap();
    assert_eq!(f.backend.tag_tokens(names).await.unwrap(), [Some(two)]);
    // Every connection of the same server has the same era.
    let other = patient(f.server.url()).recovery(Recovery::Era).connect().await.unwrap();
    assert_eq!(&other.get(&f.key).await.unwrap().unwrap().payload[..], b"v1");
    assert_eq!(other.tag_tokens(names).await.unwrap(), [Some(two)]);
    assert_eq!(f.backend.incarnation(), 0);
}

#[tokio::test]
async fn a_value_of_another_era_is_no_value_to_any_operation() {
    let f = strict().await;
    let nonce = f.store("old").await;
    save(&f);
    f.backend.remove(&f.key).await.unwrap();
    f.back_to_the_snapshot().await;
    assert!(f.exists(), "the server has it again");
    assert_eq!(f.read().await, None);
    assert_eq!(f.read_by_batch().await, None);
    let gathered: Vec<_> = (0..50).map(|_| f.backend.get(&f.key)).collect();
    for record in futures_util::future::join_all(gathered).await {
        assert_eq!(record.unwrap(), None);
    }
    assert!(!f.backend.touch(&f.key, nonce, TTL * 2).await.unwrap());
    let owner = token();
    assert_eq!(f.lease(owner).await, LeaseReply::Lease { stale: None });
    assert!(matches!(f.lease(token()).await, LeaseReply::Busy { stale: None, .. }));
    assert_eq!(f.put_leased(owner, put("new")).await, PutReply::Stored);
    assert_eq!(&f.read().await.unwrap().payload[..], b"new");
    assert!(f.backend.incarnation() > 0);
}

#[tokio::test]
async fn a_value_of_another_era_is_removed_expired_and_swept() {
    let f = strict().await;
    f.store("old").await;
    save(&f);
    f.back_to_the_snapshot().await;
    assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), cachalot_core::Expired::Nothing);
    assert!(!f.exists());
    f.back_to_the_snapshot().await;
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), cachalot_core::Removed::Existing);
    assert!(!f.exists());
    f.back_to_the_snapshot().await;
    let all = Pattern::any().within(&Namespace::new("users").unwrap());
    assert_eq!(f.backend.sweep(&all, &SweepCursor::START).await.unwrap().removed, 1);
    assert!(!f.exists());
}

#[tokio::test]
async fn a_lease_whose_revocation_was_forgotten_stores_nothing() {
    let f = strict().await;
    let owner = token();
    assert!(is_lease(&f.lease(owner).await));
    save(&f);
    f.backend.remove(&f.key).await.unwrap();
    f.back_to_the_snapshot().await;
    assert!(f.exists(), "the server has the lease again");
    assert_eq!(f.put_leased(owner, put("old")).await, PutReply::Lost);
    assert!(!f.backend.release(&f.key, owner).await.unwrap());
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn a_reader_does_not_wait_for_a_lease_of_another_era() {
    let f = strict().await;
    assert!(is_lease(&f.lease(token()).await));
    save(&f);
    f.back_to_the_snapshot().await;
    let owner = token();
    assert!(is_lease(&f.lease(owner).await), "the lease has seconds left, and nobody can use it");
    assert_eq!(f.put_leased(owner, put("new")).await, PutReply::Stored);
}

#[tokio::test]
async fn a_hold_of_another_era_keeps_readers_out_and_stores_nothing() {
    let f = strict().await;
    let writer = token();
    assert_eq!(f.hold(writer).await, Held::Held);
    save(&f);
    f.back_to_the_snapshot().await;
    assert!(matches!(f.lease(token()).await, LeaseReply::Busy { holder: Holder::Writer, .. }));
    assert_eq!(f.put_held(writer, put("old")).await, PutReply::Lost);
    assert_eq!(f.read().await, None);
    assert_eq!(f.hold(token()).await, Held::Overlap);
}

#[tokio::test]
async fn a_tags_token_read_after_a_fail_over_equals_none_read_before() {
    let f = strict().await;
    let names = [Key::new("users#all"), Key::new("users#")];
    let [first, second] = [0, 1].map(|_| [0, 1].map(|_| TagToken::draw(&Entropy::thread())));
    assert_eq!(f.backend.pin_tags(&names, &first, TTL).await.unwrap(), first);
    save(&f);
    f.backend.rotate_tags(&names, &second, Depth::Remove, TTL).await.unwrap();
    f.back_to_the_snapshot().await;
    let found = f.backend.tag_tokens(&names).await.unwrap();
    let pinned = f.backend.pin_tags(&names, &second, TTL).await.unwrap();
    for at in 0..2 {
        let found = found[at].unwrap();
        assert!(found.removed != first[at].removed && found.expired != first[at].expired);
        assert_eq!(found, pinned[at]);
    }
}

#[tokio::test]
async fn who_asks_for_eras_and_who_does_not_leave_each_others_values_alone() {
    let f = strict().await;
    let easy = connect(f.server.url()).await.unwrap();
    f.store("strict").await;
    assert_eq!(easy.get(&f.key).await.unwrap(), None);
    let owner = token();
    assert!(is_lease(&easy.get_or_lease(&f.key, owner, TERM, None).await.unwrap()));
    assert_eq!(easy.put_leased(&f.key, owner, put_for("easy", TTL)).await.unwrap(), PutReply::Stored);
    assert_eq!(f.read().await, None);
    // A removal is for all.
    f.backend.remove(&f.key).await.unwrap();
    assert_eq!(easy.get(&f.key).await.unwrap(), None);
}

#[tokio::test]
async fn a_primary_that_was_demoted_and_promoted_again_is_another_one() {
    let (primary, other) = (strict().await, server());
    primary.store("old").await;
    let names = [Key::new("users#all")];
    let [first, second] = [0, 1].map(|_| TagToken::draw(&Entropy::thread()));
    primary.backend.pin_tags(&names, &[first], TTL).await.unwrap();
    follow(&other, &primary.server);
    let before = run_id(&primary.server);
    // The other one takes over; what the first one hears now is lost.
    promote(&other);
    primary.backend.remove(&primary.key).await.unwrap();
    primary.backend.rotate_tags(&names, &[second], Depth::Remove, TTL).await.unwrap();
    follow(&primary.server, &other);
    // As Sentinel does when it demotes.
    let _: i64 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .query(&mut primary.raw())
        .unwrap();
    let error = timeout(AGES, primary.backend.get(&primary.key)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no primary"), "{error}");
    promote(&primary.server);
    primary.reached().await;
    assert_eq!(run_id(&primary.server), before, "the same process, and it has the old value again");
    assert!(primary.exists());
    assert_eq!(primary.read().await, None);
    assert_ne!(primary.backend.tag_tokens(&names).await.unwrap(), [Some(first)]);
}

#[tokio::test]
async fn a_demotion_that_left_the_connection_alone_is_noticed_before_it_is_used_after_a_while() {
    let (first, other, time) = (server(), server(), cachalot_core::ManualClock::new());
    let backend = patient(first.url()).recovery(Recovery::Era).clock(time.clock()).connect().await.unwrap();
    let f = Fixture { backend, server: first, key: Key::new("users:1") };
    f.store("old").await;
    follow(&other, &f.server);
    promote(&other);
    follow(&f.server, &other);
    promote(&f.server);
    assert!(f.exists());
    time.advance(Duration::from_secs(11));
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn a_replica_is_refused() {
    let (primary, replica) = (server(), server());
    follow(&replica, &primary);
    let connect = |server: &RedisServer| patient(server.url()).recovery(Recovery::Era).connect();
    connect(&primary).await.unwrap();
    let error = connect(&replica).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no primary"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_say_who_it_is_is_refused() {
    let server = RedisServer::start();
    let acl = ["SETUSER", "reader", "on", ">pw", "~*", "+@all", "-info"];
    redis::cmd("ACL").arg(&acl).exec(&mut raw(&server)).unwrap();
    let url = format!("redis://reader:pw@{}", server.addr());
    assert!(patient(&url).recovery(Recovery::Era).connect().await.is_err());
    let easy: RedisBackend = connect(&url).await.unwrap();
    assert_eq!(easy.get(&Key::new("k")).await.unwrap(), None);
}

/// Makes `replica` a replica of `primary`, with all that is there so far.
fn follow(replica: &RedisServer, primary: &RedisServer) {
    let port = primary.port().to_string();
    redis::cmd("REPLICAOF").arg(&["127.0.0.1", &port]).exec(&mut raw(replica)).unwrap();
    let is_up = || {
        let info: String = redis::cmd("INFO").arg("replication").query(&mut raw(replica)).unwrap();
        info.contains("master_link_status:up")
    };
    while !is_up() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn promote(replica: &RedisServer) {
    redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).exec(&mut raw(replica)).unwrap();
}

fn run_id(server: &RedisServer) -> String {
    let info: String = redis::cmd("INFO").arg("server").query(&mut raw(server)).unwrap();
    info.lines().find(|line| line.starts_with("run_id:")).unwrap().to_owned()
}
