//! Index sets: what they know, what they forget, and who may add meanwhile.

use std::collections::BTreeSet;

use cachalot_core::{Backend, ErrorKind, Key, LeaseBackend, LeaseReply, Namespace, PutReply, Tag, Tags};
use cachalot_redis_backend::{RedisBackend, TagIndex};
use cachalot_testkit::RedisServer;
use tokio::time::{Duration, sleep};

use crate::support::{Fixture, TERM, TTL, connect, patient, put, raw, token};

fn users() -> Namespace {
    Namespace::new("users").unwrap()
}

fn tag(name: &str) -> Tag {
    Tag::new(name).unwrap()
}

fn tags<const N: usize>(names: [&str; N]) -> Tags {
    Tags::new(names).unwrap()
}

async fn index(backend: &RedisBackend) -> TagIndex {
    TagIndex::open(backend, &users()).await.unwrap()
}

/// Loads `key`: lease, index, put.
async fn store(backend: &RedisBackend, index: &TagIndex, key: &Key, of: &Tags) {
    let owner = token();
    let lease = backend.get_or_lease(key, owner, TERM, None).await.unwrap();
    assert!(matches!(lease, LeaseReply::Lease { .. }), "{lease:?}");
    index.add(of, key, TTL).await.unwrap();
    assert_eq!(backend.put_leased(key, owner, put("v")).await.unwrap(), PutReply::Stored);
}

async fn known(index: &TagIndex, name: &str) -> BTreeSet<Vec<u8>> {
    let mut known = BTreeSet::new();
    let mut pages = index.keys(&tag(name));
    while let Some(page) = pages.next().await.unwrap() {
        known.extend(page.iter().map(|key| key.as_bytes().to_vec()));
    }
    known
}

fn members(server: &RedisServer, name: &str) -> usize {
    redis::cmd("ZCARD").arg(format!("users!{name}")).query(&mut raw(server)).unwrap()
}

/// Makes the time of all members of an index be over, as the server sees it.
fn end_all(server: &RedisServer, name: &str) {
    let script =
        "for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZADD', KEYS[1], 1, m) end";
    redis::cmd("EVAL").arg(script).arg(1).arg(format!("users!{name}")).exec(&mut raw(server)).unwrap();
}

#[tokio::test]
async fn an_index_knows_the_keys_of_a_tag_and_a_removal_takes_them_and_no_others() {
    let f = Fixture::start().await;
    let index = index(&f.backend).await;
    let keys: Vec<Key> = (0..3_000).map(|n: u32| users().key(&n)).collect();
    for (n, key) in keys.iter().enumerate() {
        let of = if n % 3 == 0 { tags(["hot", "third"]) } else { tags(["hot"]) };
        store(&f.backend, &index, key, &of).await;
    }
    assert_eq!((known(&index, "hot").await.len(), known(&index, "third").await.len()), (3_000, 1_000));
    let mut removal = index.remove_tag(&tag("third"));
    let (mut removed, mut steps) = (0, 0);
    while let Some(some) = removal.next().await.unwrap() {
        assert!(some <= 1_000, "{some} at once");
        removed += some;
        steps += 1;
    }
    assert_eq!(removed, 1_000);
    assert!(steps >= 2, "{steps}");
    for (n, found) in f.backend.get_many(&keys).await.into_iter().enumerate() {
        assert_eq!(found.unwrap().is_none(), n % 3 == 0, "{n}");
    }
    assert_eq!(members(&f.server, "third"), 0);
    assert_eq!(index.remove_tag(&tag("hot")).finish().await.unwrap(), 2_000);
    assert!(known(&index, "hot").await.is_empty());
    let left: usize = redis::cmd("DBSIZE").query(&mut f.raw()).unwrap();
    assert_eq!(left, 0, "an index without keys is gone");
}

#[tokio::test]
async fn a_tag_is_no_key_and_tags_keys_and_tokens_do_not_meet() {
    let f = Fixture::start().await;
    let index = index(&f.backend).await;
    let longer = TagIndex::open(&f.backend, &Namespace::new("usersAbc").unwrap()).await.unwrap();
    let odd = tags(["*", "a:b", "!", "#", "users", "\0\r\n"]);
    let key = users().key("1");
    store(&f.backend, &index, &key, &odd).await;
    longer.add(&odd, &Namespace::new("usersAbc").unwrap().key("1"), TTL).await.unwrap();
    for tag in odd.iter() {
        let page = index.keys(tag).next().await.unwrap().unwrap();
        assert_eq!(page, std::slice::from_ref(&key), "{tag:?}");
    }
    assert_eq!(index.remove_tag(&tag("*")).finish().await.unwrap(), 1);
    assert_eq!(longer.keys(&tag("*")).next().await.unwrap().unwrap().len(), 1);
    assert_eq!(known(&index, "a:b").await.len(), 1, "another tag of the key still knows it");
}

#[tokio::test]
async fn a_removal_revokes_the_lease_of_who_has_added_and_not_yet_put() {
    let f = Fixture::start().await;
    let index = index(&f.backend).await;
    let (key, owner) = (users().key("1"), token());
    f.backend.get_or_lease(&key, owner, TERM, None).await.unwrap();
    index.add(&tags(["hot"]), &key, TTL).await.unwrap();
    assert_eq!(index.remove_tag(&tag("hot")).finish().await.unwrap(), 1);
    assert_eq!(f.backend.put_leased(&key, owner, put("old")).await.unwrap(), PutReply::Absent);
}

#[tokio::test]
async fn a_key_that_is_added_again_during_a_removal_stays_known() {
    let f = Fixture::start().await;
    let index = index(&f.backend).await;
    let key = users().key("1");
    // The same time and a shorter one: what the removal has read must not look unchanged.
    let mut before = 0.0;
    for ttl in [TTL, TTL, TTL / 2, TTL * 2] {
        index.add(&tags(["hot"]), &key, ttl).await.unwrap();
        let mut ask = redis::cmd("ZSCORE");
        let now: f64 = ask.arg("users!hot").arg(key.as_bytes()).query(&mut f.raw()).unwrap();
        assert!(now > before, "{now} after {before}");
        before = now;
    }
}

/// Loaders add and put while removals go round: in the end, whatever is stored is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_value_that_is_stored_is_unknown_to_the_index_however_adds_and_removals_meet() {
    let f = Fixture::start().await;
    let index = index(&f.backend).await;
    let keys: Vec<Key> = (0..20).map(|n: u32| users().key(&n)).collect();
    let hot = tags(["hot"]);
    let loaders: Vec<_> = (0..4)
        .map(|_| {
            let (backend, index, keys, hot) = (f.backend.clone(), index.clone(), keys.clone(), hot.clone());
            tokio::spawn(async move {
                for round in 0..400 {
                    let (key, owner) = (&keys[round % keys.len()], token());
                    if let LeaseReply::Lease { .. } =
                        backend.get_or_lease(key, owner, TERM, None).await.unwrap()
                    {
                        index.add(&hot, key, TTL).await.unwrap();
                        backend.put_leased(key, owner, put("v")).await.unwrap();
                    }
                }
            })
        })
        .collect();
    let mut removed = 0;
    while loaders.iter().any(|loader| !loader.is_finished()) {
        removed += index.remove_tag(&tag("hot")).finish().await.unwrap();
        let (stored, known) = (f.backend.get_many(&keys).await, known(&index, "hot").await);
        for (key, found) in keys.iter().zip(stored) {
            assert!(found.unwrap().is_none() || known.contains(key.as_bytes()), "{key:?}");
        }
    }
    for loader in loaders {
        loader.await.unwrap();
    }
    assert!(removed > 0);
    index.remove_tag(&tag("hot")).finish().await.unwrap();
    for found in f.backend.get_many(&keys).await {
        assert_eq!(found.unwrap(), None, "stored, and unknown to the index");
    }
}

#[tokio::test]
async fn a_removal_that_breaks_off_can_be_repeated_and_has_lost_nothing() {
    let server = RedisServer::start();
    let backend = connect(server.url()).await.unwrap();
    let index = index(&backend).await;
    let keys: Vec<Key> = (0..1_500).map(|n: u32| users().key(&n)).collect();
    for key in &keys {
        store(&backend, &index, key, &tags(["hot"])).await;
    }
    let mut removal = index.remove_tag(&tag("hot"));
    let first = removal.next().await.unwrap().unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut raw(&server)).unwrap();
    let rest = loop {
        match removal.finish().await {
            Ok(rest) => break rest,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(first + rest <= 1_500, "{first} {rest}");
    assert!(backend.get_many(&keys).await.into_iter().all(|found| found.unwrap().is_none()));
}

#[tokio::test]
async fn an_index_does_not_grow_by_what_is_over() {
    let f = Fixture::start().await;
    let index = index(&f.backend).await;
    for n in 0..100u32 {
        index.add(&tags(["hot"]), &users().key(&n), TTL).await.unwrap();
    }
    end_all(&f.server, "hot");
    assert!(known(&index, "hot").await.is_empty(), "what is over is not shown");
    for n in 100..110u32 {
        index.add(&tags(["hot"]), &users().key(&n), TTL).await.unwrap();
    }
    assert_eq!(members(&f.server, "hot"), 10);
    assert_eq!(known(&index, "hot").await.len(), 10);
}

#[tokio::test]
async fn an_index_ends_with_its_last_key_unless_that_would_make_it_prey() {
    let pttl = |server: &RedisServer| -> i64 {
        redis::cmd("PTTL").arg("users!hot").query(&mut raw(server)).unwrap()
    };
    let f = Fixture::start().await;
    let index = index(&f.backend).await;
    index.add(&tags(["hot"]), &users().key("1"), Duration::from_secs(1_000)).await.unwrap();
    index.add(&tags(["hot"]), &users().key("2"), Duration::from_secs(10)).await.unwrap();
    assert!((1_000_000..=1_060_000).contains(&pttl(&f.server)), "{}", pttl(&f.server));
    let volatile = RedisServer::start_with(["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]);
    let backend = connect(volatile.url()).await.unwrap();
    let index = TagIndex::open(&backend, &users()).await.unwrap();
    index.add(&tags(["hot"]), &users().key("1"), TTL).await.unwrap();
    assert_eq!(pttl(&volatile), -1, "what has a time to live may be evicted there");
}

#[tokio::test]
async fn a_server_that_may_evict_an_index_is_refused() {
    let server = RedisServer::start_with(["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let backend = connect(server.url()).await.unwrap();
    let error = TagIndex::open(&backend, &users()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("allkeys-lru") && error.to_string().contains("volatile-*"), "{error}");
    let hidden = RedisServer::start();
    redis::cmd("ACL").arg("SETUSER").arg("default").arg("-info").exec(&mut raw(&hidden)).unwrap();
    let backend = connect(hidden.url()).await.unwrap();
    let error = TagIndex::open(&backend, &users()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("unchecked"), "{error}");
    let index = TagIndex::open_unchecked(&backend, &users());
    index.add(&tags(["hot"]), &users().key("1"), TTL).await.unwrap();
    assert_eq!(known(&index, "hot").await.len(), 1);
}

#[tokio::test]
async fn key_prefixes_keep_indexes_apart_and_long_keys_are_known_whole() {
    let server = RedisServer::start();
    let (one, two) = (
        patient(server.url()).key_prefix("one:").connect().await.unwrap(),
        patient(server.url()).key_prefix("two:").connect().await.unwrap(),
    );
    let (of_one, of_two) = (index(&one).await, index(&two).await);
    let long = users().key(&"x".repeat(2_000));
    store(&one, &of_one, &long, &tags(["hot"])).await;
    store(&two, &of_two, &users().key("1"), &tags(["hot"])).await;
    assert_eq!(of_one.keys(&tag("hot")).next().await.unwrap().unwrap(), std::slice::from_ref(&long));
    assert_eq!(of_one.remove_tag(&tag("hot")).finish().await.unwrap(), 1);
    assert_eq!(one.get(&long).await.unwrap(), None);
    assert!(two.get(&users().key("1")).await.unwrap().is_some());
}

#[tokio::test]
async fn no_tags_are_no_trip() {
    let backend = cachalot_redis_backend::Redis::connect_lazy("redis://127.0.0.1:1").unwrap();
    let index = TagIndex::open_unchecked(&backend, &users());
    index.add(&Tags::NONE, &users().key("1"), TTL).await.unwrap();
    assert_eq!(index.keys(&tag("hot")).next().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
