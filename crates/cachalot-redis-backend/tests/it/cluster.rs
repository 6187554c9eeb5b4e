//! Redis Cluster: the contract, redirections, and sweeps while slots move.

use std::time::Duration;

use cachalot_core::{
    Backend, Depth, Entropy, ErrorKind, Key, KeyPattern, LeaseBackend, LeaseReply, Namespace, Pattern,
    PutReply, Removed, SweepCursor, TagBackend, TagToken,
};
use cachalot_redis_backend::{Recovery, RedisCluster};
use cachalot_testkit::{BackendSubject, RedisCluster as Servers, RedisServer, backend_suite};
use tokio::time::{sleep, timeout};

use crate::support::{TERM, TTL, patient, put, raw, token};

const AGES: Duration = Duration::from_secs(60);

async fn connect(servers: &Servers) -> RedisCluster {
    let urls = servers.urls();
    patient(&urls[0]).connect_cluster(&urls[1..]).await.unwrap()
}

/// One cluster for all cases: each has keys of its own.
async fn subject() -> BackendSubject {
    use std::sync::{Arc, LazyLock, Mutex, Weak};
    static SERVERS: LazyLock<Mutex<Weak<Servers>>> = LazyLock::new(Mutex::default);
    let servers = {
        let mut shared = SERVERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let servers = Arc::new(Servers::start(3));
            *shared = Arc::downgrade(&servers);
            servers
        })
    };
    BackendSubject::real(connect(&servers).await).keeping(servers)
}

backend_suite!(redis_cluster, subject);

fn all() -> KeyPattern {
    Pattern::any().within(&Namespace::new("users").unwrap())
}

/// Stores under `keys` keys, and gives them.
async fn fill(cluster: &RedisCluster, keys: usize) -> Vec<Key> {
    let keys: Vec<Key> = (0..keys).map(|n| Key::new(format!("users:{n}"))).collect();
    for key in &keys {
        store(cluster, key).await;
    }
    keys
}

async fn store(cluster: &RedisCluster, key: &Key) {
    let owner = token();
    assert_eq!(
        cluster.get_or_lease(key, owner, TERM, None).await.unwrap(),
        LeaseReply::Lease { stale: None }
    );
    assert_eq!(cluster.put_leased(key, owner, put("v")).await.unwrap(), PutReply::Stored);
}

async fn present(cluster: &RedisCluster, keys: &[Key]) -> usize {
    cluster.get_many(keys).await.into_iter().filter(|record| record.as_ref().unwrap().is_some()).count()
}

/// Goes on from `from` to the end, and gives how many keys were removed and in how many steps.
async fn sweep_from(cluster: &RedisCluster, from: SweepCursor) -> (u64, usize) {
    let (mut removed, mut steps, mut next) = (0, 0, Some(from));
    while let Some(from) = next {
        let swept = cluster.sweep(&all(), &from).await.unwrap();
        (removed, steps, next) = (removed + swept.removed, steps + 1, swept.next);
    }
    (removed, steps)
}

fn tell(server: &RedisServer, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut raw(server)).unwrap();
}

fn slot_of(server: &RedisServer, key: &Key) -> u16 {
    redis::cmd("CLUSTER").arg("KEYSLOT").arg(key.as_bytes()).query(&mut raw(server)).unwrap()
}

/// The slot of `key` on its way from one node to another.
struct Migration<'a> {
    servers: &'a Servers,
    from: &'a RedisServer,
    to: &'a RedisServer,
    slot: String,
}

impl<'a> Migration<'a> {
    fn begin(servers: &'a Servers, slot: u16, from: usize, to: usize) -> Self {
        let (from, to, slot) = (&servers.primaries()[from], &servers.primaries()[to], slot.to_string());
        tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &servers.id(from)]);
        tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &servers.id(to)]);
        Self { servers, from, to, slot }
    }

    fn move_keys(&self) -> usize {
        let keys: Vec<Vec<u8>> = redis::cmd("CLUSTER")
            .arg("GETKEYSINSLOT")
            .arg(&self.slot)
            .arg(10_000)
            .query(&mut raw(self.from))
            .unwrap();
        for key in &keys {
            redis::cmd("MIGRATE")
                .arg("127.0.0.1")
                .arg(self.to.port())
                .arg(key)
                .arg(0)
                .arg(10_000)
                .exec(&mut raw(self.from))
                .unwrap();
        }
        keys.len()
    }

    fn end(self) {
        for node in [self.to, self.from] {
            tell(node, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.servers.id(self.to)]);
        }
    }
}

/// The first of `keys` that is at home on the first or the last primary, and its slot.
fn one_of<'a>(servers: &Servers, keys: &'a [Key], primary: usize) -> (&'a Key, u16) {
    let third = |slot: u16| usize::from(slot) * 3 / 16_384;
    let slots = keys.iter().map(|key| (key, slot_of(&servers.primaries()[0], key)));
    slots.into_iter().find(|(_, slot)| third(*slot) == primary).unwrap()
}

/// In the order in which a sweep goes over them.
fn by_address(servers: &Servers) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers.primaries().len()).collect();
    order.sort_by_key(|at| servers.primaries()[*at].port());
    order
}

#[tokio::test]
async fn a_key_that_has_moved_is_found_whatever_is_asked_of_it() {
    let servers = Servers::start(3);
    let cluster = connect(&servers).await;
    let keys = fill(&cluster, 100).await;
    let (key, slot) = one_of(&servers, &keys, 0);
    let absent = Key::new([b"{", key.as_bytes(), b"}absent"].concat());
    let names = [Key::new([b"{", key.as_bytes(), b"}#tag"].concat())];
    let [first, second] = [0, 1].map(|_| TagToken::draw(&Entropy::thread()));
    assert_eq!(cluster.pin_tags(&names, &[first], TTL).await.unwrap(), [first]);
    let lease = token();
    cluster.get_or_lease(&absent, lease, TERM, None).await.unwrap();

    let migration = Migration::begin(&servers, slot, 0, 2);
    assert!(cluster.get(key).await.unwrap().is_some());
    assert_eq!(migration.move_keys(), 3);
    // ASK: to the new one, while the slot is still the old one's.
    assert!(cluster.get(key).await.unwrap().is_some());
    assert_eq!(present(&cluster, &keys).await, 100);
    assert_eq!(cluster.put_leased(&absent, lease, put("v")).await.unwrap(), PutReply::Stored);
    assert_eq!(cluster.remove(&absent).await.unwrap(), Removed::Existing);
    assert_eq!(cluster.remove(&absent).await.unwrap(), Removed::Nothing);
    assert_eq!(cluster.tag_tokens(&names).await.unwrap(), [Some(first)]);
    assert_eq!(cluster.pin_tags(&names, &[second], TTL).await.unwrap(), [first]);
    cluster.rotate_tags(&names, &[second], Depth::Remove, TTL).await.unwrap();
    let removed = cluster.remove_many(&keys[..3]).await;
    assert!(removed.into_iter().all(|removed| removed.unwrap() == Removed::Existing));
    migration.end();
    // MOVED: one look, and the new one is asked at once from then on.
    assert_eq!(cluster.tag_tokens(&names).await.unwrap(), [Some(second)]);
    assert_eq!(present(&cluster, &keys).await, 97);
    assert_eq!(cluster.incarnation(), 0, "nothing is forgotten when a slot moves");
}

#[tokio::test]
async fn a_sweep_removes_everything_from_every_primary() {
    let servers = Servers::start(3);
    let cluster = connect(&servers).await;
    let keys = fill(&cluster, 300).await;
    let other = Key::new("usersAbc:1");
    store(&cluster, &other).await;
    let lease = (Key::new("users:leased"), token());
    cluster.get_or_lease(&lease.0, lease.1, TERM, None).await.unwrap();
    let (removed, steps) = sweep_from(&cluster, SweepCursor::START).await;
    assert_eq!((removed, steps), (301, 3), "a page of each primary, and no second walk");
    assert_eq!(present(&cluster, &keys).await, 0);
    assert!(cluster.get(&other).await.unwrap().is_some());
    assert_ne!(cluster.put_leased(&lease.0, lease.1, put("old")).await.unwrap(), PutReply::Stored);
}

/// The slot moves from the primary that is walked over last to the first, after that was walked over.
#[tokio::test]
async fn a_slot_that_moves_behind_a_sweep_loses_no_key() {
    let servers = Servers::start(3);
    let cluster = connect(&servers).await;
    let keys = fill(&cluster, 100).await;
    let order = by_address(&servers);
    let (first, last) = (order[0], order[2]);
    let (_, slot) = one_of(&servers, &keys, last);
    let swept = cluster.sweep(&all(), &SweepCursor::START).await.unwrap();
    let migration = Migration::begin(&servers, slot, last, first);
    assert!(migration.move_keys() > 0);
    migration.end();
    let (removed, steps) = sweep_from(&cluster, swept.next.unwrap()).await;
    assert_eq!(removed + swept.removed, 100);
    assert!(steps > 3, "it went over all of them again");
    assert_eq!(present(&cluster, &keys).await, 0);
}

/// As above, and the slot is on its way from before the sweep until after it: nobody's slots change meanwhile.
#[tokio::test]
async fn a_slot_that_is_on_its_way_all_the_time_loses_no_key() {
    let servers = Servers::start(3);
    let cluster = connect(&servers).await;
    let keys = fill(&cluster, 100).await;
    let order = by_address(&servers);
    let (first, last) = (order[0], order[2]);
    let (_, slot) = one_of(&servers, &keys, last);
    let migration = Migration::begin(&servers, slot, last, first);
    let swept = cluster.sweep(&all(), &SweepCursor::START).await.unwrap();
    assert!(migration.move_keys() > 0);
    let (removed, steps) = sweep_from(&cluster, swept.next.unwrap()).await;
    assert_eq!((removed + swept.removed, steps), (100, 5), "two walks");
    assert_eq!(present(&cluster, &keys).await, 0);
    migration.end();
}

#[tokio::test]
async fn a_replica_that_takes_over_is_found_and_counts_as_another_incarnation() {
    let servers = Servers::start_with_replicas(3, 1);
    let urls = servers.urls();
    let strict = patient(&urls[0]).recovery(Recovery::Era).connect_cluster(&urls[1..]).await.unwrap();
    let keys = fill(&strict, 30).await;
    assert_eq!(present(&strict, &keys).await, 30);
    let (on_first, _) = one_of(&servers, &keys, 0);
    let (on_last, _) = one_of(&servers, &keys, 2);
    let before = strict.incarnation();
    servers.primaries()[0].kill();
    tell(&servers.replicas()[0], &["CLUSTER", "FAILOVER", "TAKEOVER"]);
    let works = async {
        while strict.get(on_first).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(AGES, works).await.expect("the replica is not found");
    assert!(strict.incarnation() > before);
    assert_eq!(strict.get(on_first).await.unwrap(), None, "it is of another era");
    assert!(strict.get(on_last).await.unwrap().is_some());
    store(&strict, on_first).await;
    assert!(strict.get(on_first).await.unwrap().is_some());
}

/// A cluster whose nodes answer for their own slots whoever else hangs, and a client that soon gives up.
async fn hurried(servers: &Servers) -> RedisCluster {
    for node in servers.primaries() {
        tell(node, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
        tell(node, &["CONFIG", "SET", "cluster-node-timeout", "600000"]);
    }
    let urls = servers.urls();
    let hurried = patient(&urls[0]).deadline(Duration::from_secs(2));
    hurried.connect_cluster(&urls[1..]).await.unwrap()
}

/// Keys, and which of them are at home on the primary that hangs.
async fn on_and_off(servers: &Servers, cluster: &RedisCluster, hung: usize) -> (Vec<Key>, Vec<bool>) {
    let keys = fill(cluster, 60).await;
    let is_hung = |key: &Key| usize::from(slot_of(&servers.primaries()[1], key)) * 3 / 16_384 == hung;
    let on = keys.iter().map(is_hung).collect();
    (keys, on)
}

#[tokio::test]
async fn a_node_that_hangs_costs_its_own_keys_only() {
    let servers = Servers::start(3);
    let cluster = hurried(&servers).await;
    // Whichever would be asked first for its map.
    let hung = by_address(&servers)[0];
    let (keys, on_hung) = on_and_off(&servers, &cluster, hung).await;
    servers.primaries()[hung].pause();
    // The second time it is suspected, and the map is due.
    for round in 1..=2 {
        let found = cluster.get_many(&keys).await;
        for ((found, key), on_hung) in found.into_iter().zip(&keys).zip(&on_hung) {
            assert_eq!(found.is_err(), *on_hung, "{key:?}, round {round}");
            assert!(*on_hung || found.unwrap().is_some(), "{key:?}, round {round}");
        }
    }
    servers.primaries()[hung].resume();
}

#[tokio::test]
async fn tags_go_at_once_after_the_epoch_and_before_it_when_pinned() {
    let servers = Servers::start(3);
    let cluster = hurried(&servers).await;
    let (keys, on_hung) = on_and_off(&servers, &cluster, 0).await;
    let names = |wanted: bool| {
        let those = keys.iter().zip(&on_hung).filter(move |(_, on_hung)| **on_hung == wanted);
        those.map(|(key, _)| Key::new([b"tag:{", key.as_bytes(), b"}"].concat())).collect::<Vec<_>>()
    };
    let (hung, well) = (names(true), names(false));
    let draw =
        |how_many| -> Vec<TagToken> { (0..how_many).map(|_| TagToken::draw(&Entropy::thread())).collect() };
    let rotate =
        async |names: &[Key], fresh: &[TagToken]| cluster.rotate_tags(names, fresh, Depth::Remove, TTL).await;
    let first = draw(well.len());
    assert_eq!(cluster.pin_tags(&well, &first, TTL).await.unwrap(), first);
    let second = draw(well.len());
    assert_eq!(cluster.pin_tags(&well, &second, TTL).await.unwrap(), first, "in their order");
    servers.primaries()[0].pause();

    let epoch_hangs = [&hung[..1], &well].concat();
    rotate(&epoch_hangs, &draw(epoch_hangs.len())).await.unwrap_err();
    let unchanged: Vec<_> = first.into_iter().map(Some).collect();
    assert_eq!(cluster.tag_tokens(&well).await.unwrap(), unchanged, "none before the epoch");

    let one_hangs = [&well[..1], &hung[..1], &well[1..]].concat();
    let mut fresh = second.clone();
    fresh.insert(1, draw(1)[0]);
    rotate(&one_hangs, &fresh).await.unwrap_err();
    let changed: Vec<_> = second.into_iter().map(Some).collect();
    assert_eq!(cluster.tag_tokens(&well).await.unwrap(), changed, "none waits for another");

    let new: Vec<Key> = well.iter().take(4).map(|key| Key::new([key.as_bytes(), b"new"].concat())).collect();
    let one_hangs = [&hung[..1], &new].concat();
    cluster.pin_tags(&one_hangs, &draw(5), TTL).await.unwrap_err();
    let there: Vec<bool> = cluster.tag_tokens(&new).await.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(there, [true, true, false, false], "the epochs after all others");
    servers.primaries()[0].resume();
}

#[tokio::test]
async fn a_floor_is_found_where_its_slot_moved() {
    let servers = Servers::start(3);
    let cluster = connect(&servers).await;
    let floors = cluster.versions().unwrap();
    let names: Vec<Key> = (0..20).map(|n| Key::new(format!("users^{n}"))).collect();
    for name in &names {
        assert_eq!(floors.raise(name, 3, TTL).await.unwrap(), 0);
    }
    let (name, slot) = one_of(&servers, &names, 0);
    let migration = Migration::begin(&servers, slot, 0, 2);
    assert!(migration.move_keys() > 0);
    assert_eq!(floors.raise(name, 4, TTL).await.unwrap(), 3, "on its way");
    migration.end();
    assert_eq!(floors.raise(name, 0, TTL).await.unwrap(), 4, "moved");
}

#[tokio::test]
async fn a_sweep_ends_with_an_error_if_slots_keep_moving() {
    let servers = Servers::start(3);
    let cluster = connect(&servers).await;
    let (mut next, mut steps) = (SweepCursor::START, 0);
    let error = loop {
        // Once in each walk.
        if steps % 3 == 1 {
            let (from, to) = if steps % 2 == 1 { (0, 2) } else { (2, 0) };
            Migration::begin(&servers, 7, from, to).end();
        }
        steps += 1;
        match cluster.sweep(&all(), &next).await {
            Ok(swept) => next = swept.next.expect("it cannot be sure of having seen everything"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), steps), (ErrorKind::Unavailable, 12), "four walks: {error}");
}
