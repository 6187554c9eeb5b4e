//! What breaks no promise about values when it goes wrong, but costs others their time, their load or their
//! value: a short scene each.

use std::sync::Arc;
use std::time::Duration;

use cachalot::{Clock, Entry, LoaderError, Memory, MemoryBackend};
use cachalot_core::{Body, BoxFuture, Bus, Entropy, ManualClock, Message, Namespace, PublisherId, Tags};
use cachalot_strategies::{Cache, CacheBuilder, Inserted, LoadMany, OnDeserted, Removal};
use cachalot_testkit::{Fault, Faulty, ModelBackend, ModelBus, Operation, block_on_paused, tokio_clock};
use integration_tests::{Actor, ActorSpawn, Script, Stepped};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};

mod behind;
mod foreign;
mod restored;
mod sharded;
mod sliding;
mod through;

type Engine = Memory<u64, Arc<Entry<String>>>;
type Builder = CacheBuilder<u64, String, Engine>;
type Node = Cache<u64, String, Engine>;
/// Whether it ended well.
type Scene = BoxFuture<'static, bool>;

/// Generates a test per scene, and the list of them.
macro_rules! scenes {
    ($($name:ident: $scene:expr;)*) => {
        $(#[test]
        fn $name() {
            assert!(block_on_paused($scene()));
        })*

        /// The first scene that `mistake` spoils.
        #[cfg(cachalot_mutants)]
        pub(crate) fn spoiled_by(mistake: integration_tests::Mistake) -> Option<&'static str> {
            let scenes: &[(&str, fn() -> Scene)] = &[$((stringify!($name), $scene),)*];
            let is_spoiled = |scene: &fn() -> Scene| !mistake.under(|| block_on_paused(scene()));
            scenes.iter().find(|(_, scene)| is_spoiled(scene)).map(|(name, _)| *name)
        }
    };
}

pub(crate) use scenes;

scenes! {
    a_batch_that_fails_gives_its_leases_back: a_failed_batch;
    a_cancelled_batch_gives_its_leases_back: a_deserted_batch;
    a_cancelled_load_gives_its_lease_back: a_deserted_load;
    what_was_overtaken_is_not_stored: an_overtaken_load;
    a_removal_ends_the_pause_after_a_failure: a_failure_and_a_removal;
    an_early_refresh_brings_a_new_value: an_early_refresh;
    a_tag_without_a_token_ends_what_has_it: a_lost_token;
    memory_serves_nothing_while_no_subscription_stands: an_unconfirmed_subscription;
    what_another_has_pending_is_not_read_below: a_pending_removal;
    who_came_after_the_first_message_is_told_by_the_second: a_second_message;
    a_gap_ends_what_is_in_flight: a_gap_during_a_load;
    a_publisher_that_dies_before_it_speaks_is_noticed: a_silence;
    what_was_said_before_the_first_contact_is_missed: a_late_contact;
    what_a_server_forgot_is_removed_again: a_fail_over;
    a_removal_whose_caller_leaves_is_done: a_removal_that_was_left;
    what_depends_on_a_removed_key_ends_below: a_removed_parent;
    a_load_during_the_removal_of_its_parent_is_not_kept: a_parent_that_takes_its_time;
    beyond_its_limit_an_outage_drops_no_removal: an_overflow;
    an_insert_that_a_removal_followed_is_not_kept_in_memory: an_insert_and_a_removal;
    memory_gives_up_what_a_foreigner_tells_of: foreign::a_foreign_message;
    the_removal_of_a_tag_ends_what_does_not_tell_its_tags: foreign::a_value_that_tells_no_tags;
    an_older_insert_does_not_land_on_a_newer_one: two_inserts_in_reverse;
    a_load_of_an_older_version_is_not_kept: a_lagging_load;
    what_was_removed_up_to_a_version_is_not_inserted_late: a_late_insert;
    a_removal_during_a_restore_is_not_undone: restored::a_removal_during_a_restore;
    a_removal_of_a_tag_during_a_restore_is_not_undone: restored::a_tag_during_a_restore;
    what_is_loaded_during_a_restore_stays: restored::a_load_during_a_restore;
    a_touch_prolongs_what_was_read_and_no_successor: sliding::a_touch_and_a_successor;
    a_touch_brings_nothing_back_to_memory: sliding::a_touch_and_a_removal;
    a_removal_is_done_when_all_servers_have_taken_it: sharded::a_removal_that_one_server_misses;
    a_removal_reaches_both_owners_of_a_key: sharded::a_removal_during_a_move;
    no_server_takes_the_token_of_another: sharded::a_tag_during_a_move;
    a_flush_ends_what_every_tier_had: behind::a_flush;
    a_read_during_a_flush_sees_what_was_written: behind::a_read_during_a_flush;
    no_write_is_sent_while_another_of_its_key_is: behind::a_write_during_a_call;
    no_write_becomes_one_with_another_across_a_barrier: behind::a_barrier;
    a_flush_that_fails_keeps_its_writes: behind::a_failed_flush;
    no_write_is_acknowledged_that_the_journal_cannot_keep: behind::a_full_journal;
    nobody_keeps_what_a_writer_is_about_to_replace: through::a_load_before_the_source_has_it;
    what_a_removal_overtook_is_not_kept_by_its_writer: through::a_removal_before_memory_has_it;
    what_the_source_takes_late_is_forgotten_then: through::a_source_that_lands_late;
}

fn a_failed_batch() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(|builder| builder);
        let fails = |_: LoadMany<u64>| async { Err::<Vec<(u64, String)>, _>(LoaderError::new("down")) };
        let failed = one.get_many_or_load(&[1, 2], fails).await;
        settle().await;
        failed.iter().all(Result::is_err) && loads_soon(&two, 1).await
    })
}

fn a_deserted_batch() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(|builder| builder.on_deserted(OnDeserted::Cancel));
        let caller = tokio::spawn(async move {
            let hangs = |_| std::future::pending::<Result<Vec<(u64, String)>, _>>();
            drop(one.get_many_or_load(&[1, 2], hangs).await);
        });
        leave(caller).await;
        loads_soon(&two, 1).await
    })
}

fn a_deserted_load() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(|builder| builder.on_deserted(OnDeserted::Cancel));
        let caller = tokio::spawn(async move { drop(one.get_or_load(&1, |_| std::future::pending()).await) });
        leave(caller).await;
        loads_soon(&two, 1).await
    })
}

fn an_overtaken_load() -> Scene {
    Box::pin(async {
        let time = ManualClock::new();
        let cache = builder(time.clock(), 1).build().unwrap();
        let (go, wait) = oneshot::channel::<()>();
        let hanging = tokio::spawn({
            let cache = cache.clone();
            let load = async move {
                let _ = wait.await;
                Ok("late".to_owned())
            };
            async move { drop(cache.get_or_load(&1, |_| load).await) }
        });
        settle().await;
        time.advance(HOUR);
        let new = cache.get_or_load(&1, |_| async { Ok("new".to_owned()) }).await;
        go.send(()).unwrap();
        settle().await;
        hanging.await.unwrap();
        *new.unwrap() == "new" && cache.get_local(&1).is_some_and(|found| *found == "new")
    })
}

fn a_failure_and_a_removal() -> Scene {
    Box::pin(async {
        let cache = builder(tokio_clock(), 1).error_backoff(MINUTE, HOUR).build().unwrap();
        let failed = cache.get_or_load(&1, |_| async { Err(LoaderError::new("down")) }).await;
        cache.remove(&1).await.unwrap();
        failed.is_err() && cache.get_or_load(&1, |_| async { Ok("Ada".to_owned()) }).await.is_ok()
    })
}

fn an_early_refresh() -> Scene {
    Box::pin(async {
        let cache = builder(tokio_clock(), 1).ttl(MINUTE).early_refresh(0.5).build().unwrap();
        cache.get_or_load(&1, |_| async { Ok("old".to_owned()) }).await.unwrap();
        sleep(MINUTE * 2 / 3).await;
        let served = cache.get_or_load(&1, |_| async { Ok("new".to_owned()) }).await.unwrap();
        settle().await;
        *served == "old" && cache.get_local(&1).is_some_and(|found| *found == "new")
    })
}

fn a_lost_token() -> Scene {
    Box::pin(async {
        let (clock, shared) = (tokio_clock(), ModelBackend::new(tokio_clock()));
        let [one, two] =
            [1, 2].map(|seed| builder(clock.clone(), seed).backend(shared.clone()).build().unwrap());
        let tags = Tags::new(["a"]).unwrap();
        one.with(|options| options.tags(tags)).insert(1, "Ada".into()).await.unwrap();
        shared.lose_tags();
        two.get(&1).await.is_none()
    })
}

fn an_unconfirmed_subscription() -> Scene {
    Box::pin(async {
        let bus = ModelBus::new();
        let [one, _] = fleet(|builder| builder.bus(bus.clone()));
        settle().await;
        // It hears of that, and of nothing else.
        bus.break_connections();
        settle().await;
        loads(&one, "Ada").await && one.get_local(&1).is_none()
    })
}

fn a_fail_over() -> Scene {
    Box::pin(async {
        let clock = tokio_clock();
        let server = ModelBackend::new(clock.clone());
        let node = builder(clock, 1).backend(server.clone()).build().unwrap();
        node.insert(1, "old".into()).await.unwrap();
        let before = server.snapshot();
        node.remove(&1).await.unwrap();
        server.restore(&before);
        sleep(MINUTE).await;
        node.get(&1).await.is_none()
    })
}

fn a_removal_that_was_left() -> Scene {
    Box::pin(async {
        let clock = tokio_clock();
        let tier = Faulty::new(ModelBackend::new(clock.clone()));
        let node = builder(clock, 1).backend(tier.clone()).build().unwrap();
        node.insert(1, "Ada".into()).await.unwrap();
        tier.next_of(Operation::Remove, Fault::Delay(SOON));
        let caller = node.clone();
        leave(tokio::spawn(async move { drop(caller.remove(&1).await) })).await;
        sleep(MINUTE).await;
        node.get_local(&1).is_none() && node.get(&1).await.is_none()
    })
}

fn an_insert_and_a_removal() -> Scene {
    Box::pin(async {
        let (clock, script) = (tokio_clock(), Script::new());
        let tier = Stepped::new(ModelBackend::new(clock.clone()), script.clone());
        let builder = builder(clock, 1).backend(tier).spawn(ActorSpawn(script.clone()));
        let node = builder.build().unwrap();
        // Where the shared tier has stored, and its reply is on the way.
        script.stop(Actor::First, AFTER_PUT_HELD);
        let insert = script.spawn(Actor::First, {
            let node = node.clone();
            async move { node.insert(1, "Ada".into()).await.is_ok() }
        });
        let is_stored = script.stopped(Actor::First).await && script.trace().contains("after put_held");
        node.remove(&1).await.unwrap();
        script.release(Actor::First);
        assert!(insert.await.unwrap() && is_stored);
        node.get_local(&1).is_none() && node.get(&1).await.is_none()
    })
}

fn two_inserts_in_reverse() -> Scene {
    Box::pin(async {
        let clock = tokio_clock();
        let shared = ModelBackend::new(clock.clone());
        let tier = Faulty::new(shared.clone());
        let older = builder(clock.clone(), 1).versioned().backend(tier.clone()).build().unwrap();
        let newer = builder(clock.clone(), 2).versioned().backend(shared.clone()).build().unwrap();
        // It has looked at the floor, and stands before its hold.
        tier.next_of(Operation::Hold, Fault::Delay(SOON));
        let late = tokio::spawn(async move { insert(&older, 1).await });
        settle().await;
        let stored = insert(&newer, 2).await;
        late.await.unwrap();
        // One who has nothing in memory.
        let reader = builder(clock, 3).versioned().backend(shared).build().unwrap();
        stored && reader.get(&1).await.is_none_or(|found| found.version() == 2)
    })
}

fn a_lagging_load() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(Builder::versioned);
        one.remove_older(&1, 2).await.unwrap();
        let old = two.get_or_load(&1, |load| async move {
            load.version(1);
            Ok("old".to_owned())
        });
        old.await.is_ok() && two.get_local(&1).is_none() && one.get(&1).await.is_none()
    })
}

fn a_late_insert() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(Builder::versioned);
        one.remove_older(&1, 2).await.unwrap();
        !insert(&two, 1).await && two.get(&1).await.is_none() && insert(&one, 2).await
    })
}

/// Whether it was stored.
async fn insert(node: &Node, version: u64) -> bool {
    let at = node.with(|options| options.version(version));
    at.insert(1, version.to_string()).await.unwrap() == Inserted::Stored
}

fn a_pending_removal() -> Scene {
    Box::pin(async {
        let (tier, [one, two]) = one_cut_off().await;
        two.insert(1, "Ada".into()).await.unwrap();
        tier.down();
        let removed = one.remove(&1).await.unwrap();
        sleep(SOON).await;
        removed == Removal::Deferred && two.get(&1).await.is_none()
    })
}

fn a_removed_parent() -> Scene {
    Box::pin(async {
        let [one, two] = fleet(Builder::dependencies);
        one.with(|options| options).depends_on(&2).unwrap().insert(1, "of two".into()).await.unwrap();
        let was_there = two.get(&1).await.is_some();
        one.remove(&2).await.unwrap();
        was_there && one.get(&1).await.is_none()
    })
}

/// What is made of the parent's old value, which is still there, must not be kept under its new token.
fn a_parent_that_takes_its_time() -> Scene {
    Box::pin(async {
        let clock = tokio_clock();
        let shared = ModelBackend::new(clock.clone());
        let tier = Faulty::new(shared.clone());
        let slow = builder(clock.clone(), 1).backend(tier.clone()).dependencies().build().unwrap();
        let node =
            |seed| builder(clock.clone(), seed).backend(shared.clone()).dependencies().build().unwrap();
        let other = node(2);
        other.insert(2, "old".into()).await.unwrap();
        tier.next_of(Operation::Remove, Fault::Delay(SOON));
        let removal = tokio::spawn(async move { slow.remove(&2).await.is_ok() });
        settle().await;
        let parent = other.clone();
        let made = async move { Ok(parent.get(&2).await.map(|it| it.to_string()).unwrap_or_default()) };
        let of_parent = other.with(|options| options).depends_on(&2).unwrap();
        let made = of_parent.get_or_load(&1, |_| made).await.unwrap();
        sleep(MINUTE).await;
        removal.await.unwrap() && *made == "old" && node(3).get(&1).await.is_none()
    })
}

fn an_overflow() -> Scene {
    Box::pin(async {
        let clock = tokio_clock();
        let shared = ModelBackend::new(clock.clone());
        let tier = Faulty::new(shared.clone());
        let node = builder(clock.clone(), 1).backend(tier.clone()).deferred_limit(2).build().unwrap();
        for key in 1..=3 {
            node.insert(key, "old".into()).await.unwrap();
        }
        tier.down();
        for key in 1..=3 {
            node.remove(&key).await.unwrap();
        }
        tier.up();
        let bypassed = node.get(&3).await.is_none();
        sleep(MINUTE).await;
        let stranger = builder(clock, 2).backend(shared).build().unwrap();
        bypassed && stranger.get_many(&[1, 2, 3]).await.iter().all(Option::is_none)
    })
}

fn a_second_message() -> Scene {
    Box::pin(async {
        let (tier, [one, two]) = one_cut_off().await;
        two.insert(1, "Ada".into()).await.unwrap();
        tier.down();
        let removed = one.remove(&1).await.unwrap();
        sleep(SOON).await;
        // It has not been told, and copies the old value once it has heard that it missed something.
        let late = with_bus(&tier, 3);
        sleep(MINUTE / 2).await;
        let copied = late.get(&1).await.is_some() && late.get_local(&1).is_some();
        tier.up();
        sleep(MINUTE / 2).await;
        removed == Removal::Deferred && copied && late.get_local(&1).is_none()
    })
}

fn a_gap_during_a_load() -> Scene {
    Box::pin(async {
        let bus = ModelBus::new();
        let cache = builder(tokio_clock(), 1).bus(bus.clone()).build().unwrap();
        settle().await;
        let hanging = tokio::spawn({
            let cache = cache.clone();
            async move { drop(cache.get_or_load(&1, |_| std::future::pending()).await) }
        });
        settle().await;
        bus.break_connections();
        bus.mend();
        settle().await;
        let is_new = loads_soon(&cache, 1).await;
        hanging.abort();
        is_new
    })
}

fn a_silence() -> Scene {
    Box::pin(a_foreign_heartbeat(0, MINUTE))
}

fn a_late_contact() -> Scene {
    Box::pin(a_foreign_heartbeat(1, SOON))
}

/// Whether memory is distrusted `after` another publisher was heard once, when it had sent so many messages.
async fn a_foreign_heartbeat(last: u64, after: Duration) -> bool {
    let bus = ModelBus::new();
    let cache = builder(tokio_clock(), 1).bus(bus.clone()).build().unwrap();
    settle().await;
    cache.insert(1, "Ada".into()).await.unwrap();
    let publisher = PublisherId::from_bytes([7; 16]);
    let body = Body::Heartbeat { last, every: SOON, confirm: false };
    bus.publish(&Message { publisher, namespace: Namespace::new("users").unwrap(), body }).await.unwrap();
    sleep(after).await;
    cache.get_local(&1).is_none()
}

/// Two processes on a bus, over a shared tier that the first reaches only while it is up.
async fn one_cut_off() -> (Way, [Node; 2]) {
    let shared = ModelBackend::new(tokio_clock());
    let bus = ModelBus::new();
    let way = Way { tier: Faulty::new(shared.clone()), shared, bus };
    let one = builder(tokio_clock(), 1).backend(way.tier.clone()).bus(way.bus.clone()).build().unwrap();
    let two = with_bus(&way, 2);
    settle().await;
    (way, [one, two])
}

fn with_bus(way: &Way, seed: u64) -> Node {
    builder(tokio_clock(), seed).backend(way.shared.clone()).bus(way.bus.clone()).build().unwrap()
}

/// What lies between processes.
struct Way {
    shared: ModelBackend,
    tier: Faulty,
    bus: ModelBus,
}

impl Way {
    fn down(&self) {
        self.tier.down();
    }

    fn up(&self) {
        self.tier.up();
    }
}

/// The last of an insert's boundaries, which come before and after its hold and its put.
const AFTER_PUT_HELD: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Far below the term of a lease.
const SOON: Duration = Duration::from_millis(100);

/// Two processes over one shared tier.
fn fleet(settle: impl Fn(Builder) -> Builder) -> [Node; 2] {
    let clock = tokio_clock();
    let shared = MemoryBackend::with_limit(1 << 20, clock.clone());
    [1, 2].map(|seed| settle(builder(clock.clone(), seed)).backend(shared.clone()).build().unwrap())
}

fn builder(clock: Clock, seed: u64) -> Builder {
    let memory = Memory::entries(16).hash_seed(1);
    Cache::builder("users").memory(memory).clock(clock).entropy(Entropy::seeded(seed))
}

/// Whether `node` loads `name` under key 1.
async fn loads(node: &Node, name: &'static str) -> bool {
    node.get_or_load(&1, |_| async move { Ok(name.to_owned()) }).await.is_ok()
}

/// Whether `node` loads `key` without having to wait for somebody else's lease.
async fn loads_soon(node: &Node, key: u64) -> bool {
    let began = Instant::now();
    let loaded = node.get_or_load(&key, |_| async { Ok("Ada".to_owned()) }).await;
    loaded.is_ok() && began.elapsed() < SOON
}

/// Lets `caller` come to where it waits, and go.
async fn leave(caller: JoinHandle<()>) {
    settle().await;
    caller.abort();
    settle().await;
}

/// Lets every task run until it waits for time or for somebody else.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}
