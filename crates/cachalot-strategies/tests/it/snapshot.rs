//! Memory that outlives its process in a file: with what is left of its life, and never against an invalidation.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Clock, Entropy, Entry, Freshness, ManualClock, Tags, Tier};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, CacheBuilder, Refused, SnapshotFile};
use tempfile::TempDir;

use crate::world::{Users, UsersBuilder, World, pass, secs};

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("users.snapshot")
    }

    fn file(&self) -> SnapshotFile {
        SnapshotFile::at(self.path())
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder.path()).unwrap().count()
    }
}

fn builder(clock: &Clock) -> UsersBuilder {
    let memory = Memory::entries(50_000).hash_seed(1);
    Cache::builder("users").memory(memory).clock(clock.clone()).entropy(Entropy::seeded(1)).ttl(secs(60))
}

fn local(cache: &Users, key: u64) -> Option<String> {
    cache.get_local(&key).map(|value| (*value).clone())
}

#[tokio::test]
async fn what_memory_held_is_there_again_with_what_is_left_of_its_life() {
    let (place, time) = (Place::new(), ManualClock::new());
    let cache = builder(&time.clock()).negative_ttl(secs(40)).build().unwrap();
    for key in 0..10_000 {
        cache.insert(key, format!("user {key}")).await.unwrap();
    }
    cache.get_or_load_opt(&404_404, |_| async { Ok(None) }).await.unwrap();
    time.advance(secs(20));
    let written = cache.snapshot(place.file()).await.unwrap();
    assert_eq!((written.entries, written.skipped), (10_001, 0));
    assert_eq!(written.bytes, fs::metadata(place.path()).unwrap().len());
    assert_eq!(place.files(), 1, "nothing is left beside it");

    time.advance(secs(15));
    let cache = builder(&time.clock()).build().unwrap();
    let restored = cache.restore(place.file()).await.unwrap();
    assert_eq!(
        (restored.entries, restored.expired, restored.unreadable, restored.skipped),
        (10_001, 0, 0, 0)
    );
    assert!(restored.is_complete && restored.refused.is_none());
    let served = cache.get_local(&7).unwrap();
    assert_eq!((&**served, served.age()), ("user 7", secs(35)));
    let absent = cache.get_or_load_opt(&404_404, |_| async { panic!("known to be absent") }).await.unwrap();
    assert!(absent.is_none());
    time.advance(secs(24));
    assert!(local(&cache, 7).is_some());
    time.advance(secs(1));
    assert_eq!(local(&cache, 7), None, "60 s in all");
    assert_eq!(place.files(), 0, "it was taken");
    assert_eq!(cache.restore(place.file()).await.unwrap().refused, Some(Refused::NoFile));
}

#[tokio::test]
async fn what_has_ended_meanwhile_is_not_put_back_and_what_is_stale_stays_stale() {
    let (place, time) = (Place::new(), ManualClock::new());
    let build = || builder(&time.clock()).stale_if_error(secs(30)).build().unwrap();
    let cache = build();
    cache.insert(1, "Ada".into()).await.unwrap();
    time.advance(secs(50));
    cache.insert(2, "Grace".into()).await.unwrap();
    cache.snapshot(place.file()).await.unwrap();
    for (meanwhile, entries) in [(20, 2), (20, 1), (50, 0)] {
        time.advance(secs(meanwhile));
        let cache = build();
        let restored = cache.restore(place.file().keep()).await.unwrap();
        assert_eq!((restored.entries, restored.expired), (entries, 2 - entries));
        if meanwhile == 20 && entries == 2 {
            let failing = |_| async { Err::<String, _>(std::io::Error::other("down").into()) };
            assert_eq!(cache.get_or_load(&1, failing).await.unwrap().freshness(), Freshness::Stale);
        }
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_gives_no_longer_life() {
    let (place, time) = (Place::new(), ManualClock::new());
    time.advance(secs(10_000));
    let cache = builder(&time.clock()).build().unwrap();
    cache.insert(1, "Ada".into()).await.unwrap();
    time.advance(secs(40));
    cache.snapshot(place.file()).await.unwrap();
    let earlier = ManualClock::new();
    let cache = builder(&earlier.clock()).build().unwrap();
    assert_eq!(cache.restore(place.file()).await.unwrap().entries, 1);
    assert_eq!(cache.get_local(&1).unwrap().age(), secs(40));
    earlier.advance(secs(20));
    assert_eq!(local(&cache, 1), None);
}

#[tokio::test]
async fn what_was_invalidated_before_the_snapshot_is_not_in_it() {
    let (place, time) = (Place::new(), ManualClock::new());
    let cache = builder(&time.clock()).stale_if_error(secs(100)).build().unwrap();
    let tagged = Tags::new(["old"]).unwrap();
    for key in 0..4 {
        cache.insert(key, "Ada".into()).await.unwrap();
    }
    cache.with(|options| options.tags(tagged)).insert(4, "Ada".into()).await.unwrap();
    cache.remove(&0).await.unwrap();
    cache.expire(&1).await.unwrap();
    cache.remove_tag("old").await.unwrap();
    let written = cache.snapshot(place.file()).await.unwrap();
    assert_eq!((written.entries, written.skipped), (2, 2));
    let cache = builder(&time.clock()).build().unwrap();
    cache.restore(place.file()).await.unwrap();
    let there: Vec<u64> = (0..5).filter(|key| local(&cache, *key).is_some()).collect();
    assert_eq!(there, [2, 3]);
}

/// Two entries: 1, which has the tag `people` and depends on 9; and 2.
async fn written(place: &Place, clock: &Clock) {
    let cache = builder(clock).dependencies().build().unwrap();
    let view = cache.with(|options| options.tags(Tags::new(["people"]).unwrap())).depends_on(&9).unwrap();
    view.insert(1, "Ada".into()).await.unwrap();
    cache.insert(2, "Grace".into()).await.unwrap();
    cache.snapshot(place.file()).await.unwrap();
}

#[tokio::test]
async fn whatever_invalidates_after_a_restore_ends_what_was_put_back() {
    for how in ["key", "tag", "expire tag", "parent", "pattern", "clear", "insert"] {
        let (place, time) = (Place::new(), ManualClock::new());
        written(&place, &time.clock()).await;
        let cache = builder(&time.clock()).dependencies().build().unwrap();
        assert_eq!(cache.restore(place.file()).await.unwrap().entries, 2);
        invalidate(&cache, how).await;
        assert_ne!(local(&cache, 1).as_deref(), Some("Ada"), "{how}");
        assert_eq!(local(&cache, 2).is_some(), how != "clear", "{how}");
    }
}

async fn invalidate(cache: &Users, how: &str) {
    match how {
        "key" => drop(cache.remove(&1).await.unwrap()),
        "tag" => drop(cache.remove_tag("people").await.unwrap()),
        "expire tag" => drop(cache.expire_tag("people").await.unwrap()),
        "parent" => drop(cache.remove(&9).await.unwrap()),
        "pattern" => drop(cache.remove_pattern(&cachalot_core::Pattern::literal("1")).await.unwrap()),
        "clear" => drop(cache.clear().await.unwrap()),
        _ => drop(cache.insert(1, "Augusta".into()).await.unwrap()),
    }
}

#[tokio::test]
async fn whatever_invalidates_while_it_restores_is_not_undone() {
    for how in ["key", "tag", "expire tag", "parent", "pattern", "clear", "insert"] {
        let (place, time) = (Place::new(), ManualClock::new());
        written(&place, &time.clock()).await;
        let cache = builder(&time.clock()).dependencies().build().unwrap();
        // Called, and not even begun.
        let restoring = cache.restore(place.file());
        invalidate(&cache, how).await;
        let restored = restoring.await.unwrap();
        assert!(restored.is_complete);
        assert_ne!(local(&cache, 1).as_deref(), Some("Ada"), "{how}");
        assert!(how != "clear" || local(&cache, 2).is_none());
    }
}

#[tokio::test]
async fn what_memory_has_already_stays() {
    let (place, time) = (Place::new(), ManualClock::new());
    written(&place, &time.clock()).await;
    let cache = builder(&time.clock()).build().unwrap();
    cache.get_or_load(&1, |_| async { Ok("Augusta".to_owned()) }).await.unwrap();
    let restored = cache.restore(place.file()).await.unwrap();
    assert_eq!((restored.entries, restored.skipped), (1, 1));
    assert_eq!(local(&cache, 1).as_deref(), Some("Augusta"));
}

#[tokio::test]
async fn what_is_loaded_while_it_restores_stays() {
    let (place, time) = (Place::new(), ManualClock::new());
    written(&place, &time.clock()).await;
    let cache = builder(&time.clock()).build().unwrap();
    let restoring = cache.restore(place.file());
    cache.get_or_load(&1, |_| async { Ok("Augusta".to_owned()) }).await.unwrap();
    let restored = restoring.await.unwrap();
    assert_eq!((restored.entries, restored.skipped), (1, 1));
    assert_eq!(local(&cache, 1).as_deref(), Some("Augusta"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (place, time) = (Place::new(), ManualClock::new());
    written(&place, &time.clock()).await;
    assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn versions_outlive_it_too() {
    let (place, time) = (Place::new(), ManualClock::new());
    let build = || builder(&time.clock()).versioned().build().unwrap();
    let cache = build();
    cache.with(|options| options.version(6)).insert(1, "six".into()).await.unwrap();
    cache.snapshot(place.file()).await.unwrap();
    let cache = build();
    cache.restore(place.file().keep()).await.unwrap();
    let older = cache.with(|options| options.version(5)).insert(1, "five".into()).await.unwrap();
    assert_eq!(older, cachalot_strategies::Inserted::Outdated);
    assert_eq!(cache.get_local(&1).map(|value| value.version()), Some(6));
    let cache = build();
    cache.remove_older(&1, 7).await.unwrap();
    cache.restore(place.file()).await.unwrap();
    assert_eq!(local(&cache, 1), None, "it is known to be outdated");
}

#[tokio::test]
async fn another_name_schema_or_age_is_refused_and_leaves_the_file() {
    let (place, time) = (Place::new(), ManualClock::new());
    written(&place, &time.clock()).await;
    time.advance(secs(30));
    let cache = builder(&time.clock()).build().unwrap();
    let others: Users = Cache::builder("others").memory(Memory::entries(9)).build().unwrap();
    let refused = |restored: cachalot_strategies::Restored| (restored.refused, restored.entries);
    assert_eq!(refused(others.restore(place.file()).await.unwrap()), (Some(Refused::Name), 0));
    assert_eq!(refused(cache.restore(place.file().schema(1)).await.unwrap()), (Some(Refused::Schema), 0));
    let young = place.file().max_age(secs(29));
    assert_eq!(refused(cache.restore(young).await.unwrap()), (Some(Refused::TooOld), 0));
    let mut bytes = fs::read(place.path()).unwrap();
    for (at, why) in [(8, Refused::Version), (0, Refused::NoSnapshot)] {
        let was = bytes[at];
        bytes[at] ^= 0xff;
        fs::write(place.path(), &bytes).unwrap();
        assert_eq!(refused(cache.restore(place.file()).await.unwrap()), (Some(why), 0));
        bytes[at] = was;
    }
    fs::write(place.path(), &bytes).unwrap();
    assert_eq!(cache.restore(place.file().max_age(secs(30))).await.unwrap().entries, 2);
}

#[tokio::test]
async fn a_torn_file_gives_what_is_whole_and_a_damaged_record_costs_itself() {
    let (place, time) = (Place::new(), ManualClock::new());
    let cache = builder(&time.clock()).build().unwrap();
    for key in 0..1000 {
        cache.insert(key, format!("user {key}")).await.unwrap();
    }
    cache.snapshot(place.file()).await.unwrap();
    let whole = fs::read(place.path()).unwrap();
    let mut last = 0;
    for part in 1..=10 {
        let length = whole.len() * part / 10 - 1;
        fs::write(place.path(), &whole[..length]).unwrap();
        let cache = builder(&time.clock()).build().unwrap();
        let restored = cache.restore(place.file()).await.unwrap();
        assert!(!restored.is_complete && restored.unreadable == 0);
        assert!(restored.entries > last && restored.entries.abs_diff(100 * part as u64) < 5, "{restored:?}");
        last = restored.entries;
        let there = (0..1000).filter(|key| local(&cache, *key) == Some(format!("user {key}"))).count();
        assert_eq!(there as u64, restored.entries);
    }
    let mut bytes = whole.clone();
    // In a body: each is some 80 bytes long, and its frame twelve.
    let at = whole.len() / 2;
    let body = (at..).find(|at| bytes[*at..].starts_with(b"user ")).unwrap();
    bytes[body] = b'U';
    fs::write(place.path(), &bytes).unwrap();
    let cache = builder(&time.clock()).build().unwrap();
    let restored = cache.restore(place.file()).await.unwrap();
    assert_eq!((restored.entries, restored.unreadable, restored.is_complete), (999, 1, true));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_leaves_the_old_one() {
    let (place, time) = (Place::new(), ManualClock::new());
    written(&place, &time.clock()).await;
    let cache = builder(&time.clock()).build().unwrap();
    let nowhere = SnapshotFile::at(place.folder.path().join("nowhere/users.snapshot"));
    let error = cache.snapshot(nowhere).await.unwrap_err();
    assert_eq!(error.kind(), cachalot_core::ErrorKind::Unavailable);
    // A folder in its place cannot be replaced by a file.
    let folder = place.folder.path().join("folder");
    fs::create_dir(&folder).unwrap();
    cache.snapshot(&*folder).await.unwrap_err();
    assert_eq!(place.files(), 2, "nothing is left beside");
    assert_eq!(cache.restore(place.file()).await.unwrap().entries, 2);
}

#[tokio::test]
async fn keys_that_do_not_come_back_from_their_bytes_are_unreadable() {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct OneWay(u64);
    impl cachalot_core::CacheKey for OneWay {
        fn write_key(&self, out: &mut Vec<u8>) {
            self.0.write_key(out);
        }
    }
    let place = Place::new();
    let builder: CacheBuilder<OneWay, u64, Memory<OneWay, Arc<Entry<u64>>>> = Cache::builder("users");
    let cache = builder.memory(Memory::entries(9)).build().unwrap();
    cache.insert(OneWay(1), 1).await.unwrap();
    cache.snapshot(place.file()).await.unwrap();
    let restored = cache.restore(place.file()).await.unwrap();
    assert_eq!((restored.entries, restored.unreadable), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn over_a_shared_tier_the_file_says_which_keys_and_the_tier_what_they_hold() {
    let (place, world) = (Place::new(), World::new());
    (1..=300).for_each(|key| world.source.set(key, format!("user {key}")));
    let cache = world.node();
    for key in 1..=300 {
        world.load(&cache, key).await.unwrap();
    }
    cache.snapshot(place.file()).await.unwrap();
    // While this process is down.
    let other = world.node();
    other.remove(&1).await.unwrap();
    other.insert(2, "Grace".into()).await.unwrap();
    pass(secs(1)).await;
    let loads = world.source.loads();
    let cache = world.node();
    let restored = cache.restore(place.file()).await.unwrap();
    assert_eq!((restored.entries, restored.skipped, restored.is_complete), (299, 1, true));
    assert_eq!(local(&cache, 1), None, "it was removed");
    assert_eq!(local(&cache, 2).as_deref(), Some("Grace"), "it was replaced");
    assert_eq!(cache.get_local(&3).unwrap().tier(), Tier::Memory);
    assert_eq!(world.source.loads(), loads);
    other.remove(&4).await.unwrap();
    pass(Duration::from_secs(11)).await;
    assert_eq!(local(&cache, 4), None, "a copy like any other");
}

#[tokio::test]
async fn with_a_bus_and_no_shared_tier_nothing_is_put_back() {
    let (place, time) = (Place::new(), ManualClock::new());
    written(&place, &time.clock()).await;
    let bus = cachalot_invalidation::LocalBus::new();
    let cache = builder(&time.clock()).bus(bus).build().unwrap();
    assert_eq!(cache.restore(place.file()).await.unwrap().refused, Some(Refused::Blind));
}

/// `docs/snapshot.md` has these bytes one by one.
#[tokio::test]
async fn a_file_of_version_1_is_readable_for_ever() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/snapshot-v1.bin");
    let (place, time) = (Place::new(), ManualClock::new());
    let cache = builder(&time.clock()).versioned().build().unwrap();
    let options = |tag: &str| Tags::new([tag]).unwrap();
    let view = cache.with(|it| it.tags(options("people")).ttl(secs(60)).version(3));
    view.insert(7, "Ada".into()).await.unwrap();
    time.advance(secs(5));
    cache.snapshot(place.file().schema(2)).await.unwrap();
    let bytes = fs::read(place.path()).unwrap();
    if std::env::var_os("CACHALOT_WRITE_GOLDEN").is_some() {
        fs::write(golden, &bytes).unwrap();
    }
    assert_eq!(bytes, fs::read(golden).unwrap());

    let cache = builder(&time.clock()).versioned().build().unwrap();
    let restored = cache.restore(SnapshotFile::at(golden).schema(2).keep()).await.unwrap();
    assert!(restored.is_complete);
    let served = cache.get_local(&7).unwrap();
    assert_eq!((&**served, served.age(), served.version()), ("Ada", secs(5), 3));
    cache.remove_tag("people").await.unwrap();
    assert_eq!(local(&cache, 7), None);
}
