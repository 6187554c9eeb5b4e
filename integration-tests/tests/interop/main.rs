//! The layout `plain` beside a service in Python that follows the common recipe with redis-py: both ways.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

// A call to Python blocks its thread: the tasks of the cache go on on others.
mod python;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachalot::codec::Json;
use cachalot::units::minutes;
use cachalot::{
    Cache, CacheBuilder, Cached, Event, Inserted, LoaderError, Memory, Observer, Pattern, PlainBuilder,
    PlainForm, Redis, Removal, Tags, Tier, Versioned,
};
use cachalot_testkit::{Gate, RedisServer};
use python::Python;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

type Users = Cache<u64, User>;

fn user(name: &str) -> User {
    User { name: name.into(), age: 36 }
}

/// A server, a service in Python and a cache, which hear each other.
struct Beside {
    python: Python,
    users: Users,
    gaps: Arc<Gaps>,
    server: RedisServer,
}

/// Counts what could not be read, and how often a subscription stood.
#[derive(Debug, Default)]
struct Gaps {
    gaps: AtomicUsize,
    undecodable: AtomicUsize,
}

#[derive(Debug)]
struct Watch(Arc<Gaps>);

impl Observer for Watch {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Gap => self.0.gaps.fetch_add(1, Ordering::SeqCst),
            Event::Undecodable { .. } => self.0.undecodable.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
    }
}

impl Beside {
    async fn start(settle: impl FnOnce(CacheBuilder<u64, User>) -> CacheBuilder<u64, User>) -> Self {
        Self::with(PlainForm::Bare, settle).await
    }

    async fn with(
        form: PlainForm,
        settle: impl FnOnce(CacheBuilder<u64, User>) -> CacheBuilder<u64, User>,
    ) -> Self {
        let server = RedisServer::start();
        let python = Python::start(&server.url());
        let gaps = Arc::new(Gaps::default());
        let layout = layout(&server).form(form);
        let builder = Cache::builder("user")
            .memory(Memory::entries(1000))
            .bus(layout.clone().bus().unwrap())
            .backend(layout.connect().await.unwrap())
            .codec(Json)
            .ttl(minutes(5))
            .memory_ttl(minutes(5))
            .observer(Watch(gaps.clone()));
        let beside = Self { python, users: settle(builder).build().unwrap(), gaps, server };
        beside.until(|gaps| gaps.gaps.load(Ordering::SeqCst) > 0).await;
        beside
    }

    /// Waits for what must come.
    async fn until(&self, is_so: impl Fn(&Gaps) -> bool) {
        let wait = async {
            while !is_so(&self.gaps) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(30), wait).await.expect("it does not come");
    }

    /// Waits until memory has given up what it had under key 1.
    async fn until_forgotten(&self) {
        self.until(|_| self.users.get_local(&1).is_none()).await;
    }

    /// What the cache gives for key 1, which must be there.
    async fn found(&self) -> Cached<User> {
        self.users.get(&1).await.expect("a value")
    }

    /// What the cache gives for key 1; it must not load.
    async fn get_without_load(&self) -> Cached<User> {
        let load = |_| async { Err::<User, _>(LoaderError::new("nobody was to load")) };
        self.users.get_or_load(&1, load).await.unwrap()
    }

    async fn load(&self, name: &str) -> Cached<User> {
        let loaded = user(name);
        self.users.get_or_load(&1, |_| async { Ok(loaded) }).await.unwrap()
    }
}

fn layout(server: &RedisServer) -> PlainBuilder {
    Redis::builder(server.url()).deadline(Duration::from_secs(30)).plain()
}

fn ann() -> Value {
    json!({"name": "Ann", "age": 36})
}

#[test]
fn the_page_on_interop_shows_the_recipe_that_is_tested_here() {
    let page = include_str!("../../../docs/interop.md");
    let recipe = include_str!("../../interop/recipe.py");
    assert!(
        page.contains(&format!("```python\n{recipe}```")),
        "copy integration-tests/interop/recipe.py anew"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_python_writes_is_read_in_all_forms() {
    let mut beside = Beside::start(|builder| builder).await;
    for words in [
        json!(["set", "user:1", ann(), 60]),
        json!(["set_early", "user:1", ann(), 60, 0.25]),
        json!(["set_stale", "user:1", ann(), 60, 300]),
    ] {
        beside.python.call(words);
        let fresh = layout(&beside.server).connect().await.unwrap();
        let users: Users =
            Cache::builder("user").memory(Memory::entries(10)).backend(fresh).codec(Json).build().unwrap();
        let found = users.get(&1).await.expect("a value");
        assert_eq!((&*found, found.tier()), (&user("Ann"), Tier::Backend));
        assert!(found.stale_reason().is_none());
    }
    assert_eq!(*beside.get_without_load().await, user("Ann"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stale_in_python_is_stale_here_and_served_while_one_load_runs() {
    let mut beside = Beside::start(|builder| builder.stale_while_revalidate(minutes(5))).await;
    beside.python.call(json!(["set_stale", "user:1", ann(), 0, 300]));
    let served = beside.load("new").await;
    assert_eq!(*served, user("Ann"));
    assert!(served.stale_reason().is_some());
    beside.until(|_| beside.users.get_local(&1).is_some_and(|found| found.name == "new")).await;
    assert_eq!(beside.python.call(json!(["get", "user:1"])), json!([user("new"), true]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_reads_what_is_written_here_in_all_forms() {
    for form in [PlainForm::Bare, PlainForm::Early, PlainForm::Stale] {
        let mut beside = Beside::with(form, |builder| builder.stale_if_error(minutes(5))).await;
        beside.load("Ada").await;
        assert_eq!(beside.python.call(json!(["get", "user:1"])), json!([user("Ada"), true]), "{form:?}");
        assert_eq!(beside.users.insert(1, user("Bob")).await.unwrap(), Inserted::Stored);
        assert_eq!(beside.python.call(json!(["get", "user:1"])), json!([user("Bob"), true]), "{form:?}");
        let left = beside.python.call(json!(["command", "TTL", "user:1"])).as_i64().unwrap();
        let most = if form == PlainForm::Bare { 300 } else { 600 };
        assert!((most - 60..=most).contains(&left), "{form:?} lives for {left} s");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_python_has_the_lock_nobody_loads_here_and_its_value_is_taken() {
    let mut beside = Beside::start(|builder| builder).await;
    let token = beside.python.call(json!(["lock", "user:1"]));
    assert!(token.is_string());
    let users = beside.users.clone();
    let loads = Arc::new(AtomicUsize::new(0));
    let count = loads.clone();
    let waiting = tokio::spawn(async move {
        let load = |_| async move {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(user("loaded here"))
        };
        users.get_or_load(&1, load).await.unwrap()
    });
    // It has asked for the lock, and been told to wait, more than once.
    let evals = |beside: &mut Beside| {
        let said = beside.python.call(json!(["command", "INFO", "commandstats"]));
        let calls = |name: &str| said[format!("cmdstat_{name}")]["calls"].as_u64().unwrap_or_default();
        calls("evalsha") + calls("eval")
    };
    let before = evals(&mut beside);
    timeout(Duration::from_secs(30), async {
        while evals(&mut beside) < before + 4 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it does not ask again");
    assert!(!waiting.is_finished());
    beside.python.call(json!(["set", "user:1", ann(), 60]));
    assert_eq!(beside.python.call(json!(["unlock", "user:1", token])), json!(true));
    assert_eq!(*waiting.await.unwrap(), user("Ann"));
    assert_eq!(loads.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_loaded_here_python_waits_and_takes_the_value() {
    let mut beside = Beside::start(|builder| builder).await;
    let gate = Gate::closed();
    let (users, at) = (beside.users.clone(), gate.clone());
    let loading = tokio::spawn(async move {
        let load = |_| async move {
            at.pass().await;
            Ok(user("Ada"))
        };
        users.get_or_load(&1, load).await.unwrap()
    });
    gate.reached(1).await;
    assert_eq!(beside.python.call(json!(["lock", "user:1"])), Value::Null);
    beside.python.tell(json!(["load", "user:1", ann(), 60]));
    gate.open();
    loading.await.unwrap();
    assert_eq!(beside.python.answer(), json!([user("Ada"), 0]));
    assert!(beside.python.call(json!(["lock", "user:1"])).is_string(), "it was given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_gives_up_what_python_tells_of() {
    let mut beside = Beside::start(|builder| builder).await;
    for words in [
        json!(["remove", "user:1"]),
        json!(["remove_pattern", "user:*"]),
        json!(["remove_pattern", "*:1"]),
        json!(["remove_tag", "hot"]),
    ] {
        beside.python.call(json!(["set", "user:1", ann(), 60]));
        beside.python.call(json!(["tag", "user:1", "hot"]));
        beside.found().await;
        assert!(beside.users.get_local(&1).is_some());
        beside.python.call(words.clone());
        beside.until_forgotten().await;
        assert!(beside.users.get(&1).await.is_none(), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_what_python_tells_of_others() {
    let mut beside = Beside::start(|builder| builder).await;
    beside.load("Ada").await;
    for words in [json!({"key": "user:2"}), json!({"key": "users:1"}), json!({"pattern": "product:*"})] {
        beside.python.call(json!(["publish", words]));
    }
    // What comes last is heard last.
    beside.users.insert(3, user("last")).await.unwrap();
    beside.users.get(&3).await.unwrap();
    beside.python.call(json!(["publish", {"key": "user:3"}]));
    beside.until(|_| beside.users.get_local(&3).is_none()).await;
    assert_eq!(beside.users.get_local(&1).map(|found| found.name.clone()).as_deref(), Some("Ada"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_the_channel_is_a_gap() {
    let mut beside = Beside::start(|builder| builder).await;
    beside.load("Ada").await;
    beside.python.call(json!(["command", "PUBLISH", "cache:invalidate", "user:1"]));
    beside.until(|gaps| gaps.gaps.load(Ordering::SeqCst) > 1).await;
    assert!(beside.users.get_local(&1).is_none());
    assert_eq!(*beside.get_without_load().await, user("Ada"), "the server still has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_hears_what_is_removed_here() {
    let mut beside = Beside::start(|builder| builder).await;
    let heard = |beside: &mut Beside| beside.python.call(json!(["heard"]));
    assert_eq!(beside.users.remove(&1).await.unwrap(), Removal::Removed);
    assert_eq!(heard(&mut beside), json!({"key": "user:1"}));
    beside.users.remove_tag("hot").await.unwrap();
    assert_eq!(heard(&mut beside), json!({"tag": "hot"}));
    beside.users.remove_pattern(&Pattern::prefix("1")).await.unwrap();
    assert_eq!(heard(&mut beside), json!({"pattern": "user:1*"}));
    beside.users.clear().await.unwrap();
    assert_eq!(heard(&mut beside), json!({"pattern": "user:*"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_python_has_tagged_is_removed_by_its_tag_here() {
    let mut beside = Beside::start(|builder| builder).await;
    for key in ["user:1", "product:7"] {
        beside.python.call(json!(["set", key, ann(), 60]));
        beside.python.call(json!(["tag", key, "hot", "new"]));
    }
    beside.found().await;
    assert_eq!(beside.users.remove_tag("hot").await.unwrap(), Removal::Removed);
    // Memory did not know that it had the tag.
    assert!(beside.users.get_local(&1).is_none());
    assert!(beside.users.get(&1).await.is_none());
    assert_eq!(beside.python.call(json!(["get", "product:7"])), Value::Null);
    assert_eq!(beside.python.call(json!(["tagged", "hot"])), json!([]));
    assert_eq!(beside.python.call(json!(["tagged", "new"])), json!(["product:7", "user:1"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_tagged_here_is_found_and_removed_by_python() {
    let mut beside = Beside::start(|builder| builder).await;
    let load = |load: cachalot::Load<u64>| {
        load.tag("decided");
        async { Ok(user("Ada")) }
    };
    beside.users.get_or_load(&1, load).await.unwrap();
    beside
        .users
        .with(|options| options.tags(Tags::new(["given"]).unwrap()))
        .insert(2, user("Bob"))
        .await
        .unwrap();
    assert_eq!(beside.python.call(json!(["tagged", "decided"])), json!(["user:1"]));
    assert_eq!(beside.python.call(json!(["tagged", "given"])), json!(["user:2"]));
    beside.python.call(json!(["remove_tag", "decided"]));
    beside.until_forgotten().await;
    assert!(beside.users.get(&1).await.is_none());
    assert!(beside.users.get(&2).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_that_ends_lock_and_token_too_revokes_a_load() {
    for words in
        [json!(["remove", "user:1"]), json!(["remove_tag", "hot"]), json!(["remove_pattern", "user:*"])]
    {
        let mut beside = Beside::start(|builder| builder).await;
        let gate = Gate::closed();
        let (users, at) = (beside.users.clone(), gate.clone());
        let loading = tokio::spawn(async move {
            let load = |load: cachalot::Load<u64>| {
                load.tag("hot");
                async move {
                    at.pass().await;
                    Ok(user("old"))
                }
            };
            drop(users.get_or_load(&1, load).await);
        });
        gate.reached(1).await;
        beside.python.call(words.clone());
        gate.open();
        loading.await.unwrap();
        assert_eq!(beside.python.call(json!(["get", "user:1"])), Value::Null, "{words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_miss_and_an_event_and_is_loaded_over() {
    let mut beside = Beside::start(|builder| builder).await;
    let deep = "[".repeat(5_000) + &"]".repeat(5_000);
    for (count, text) in
        ["not JSON", "{\"name\": \"Ann\"}", "{\"value\": 1, \"_fresh\": \"soon\"}", "NaN", &deep]
            .into_iter()
            .enumerate()
    {
        beside.users.remove(&1).await.unwrap();
        beside.python.call(json!(["command", "SET", "user:1", text]));
        assert!(beside.users.get(&1).await.is_none(), "{text:.40}");
        assert!(beside.gaps.undecodable.load(Ordering::SeqCst) > count, "{text:.40}");
        assert_eq!(*beside.load("Ada").await, user("Ada"));
        assert_eq!(beside.python.call(json!(["get", "user:1"])), json!([user("Ada"), true]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versioned_keys_have_the_same_names() {
    let mut beside = Beside::start(|builder| builder).await;
    let users: Cache<Versioned<u64>, User> = Cache::builder("user")
        .memory(Memory::entries(10))
        .backend(layout(&beside.server).connect().await.unwrap())
        .codec(Json)
        .build()
        .unwrap();
    users.insert(Versioned::new(1, 3), user("Ada")).await.unwrap();
    assert_eq!(beside.python.call(json!(["get", "user:1:v3"])), json!([user("Ada"), true]));
    beside.python.call(json!(["set", "user:1:v4", ann(), 60]));
    assert_eq!(*users.get(&Versioned::new(1, 4)).await.unwrap(), user("Ann"));
    users.remove_pattern(&Pattern::new("1:v*")).await.unwrap();
    assert_eq!(beside.python.call(json!(["get", "user:1:v4"])), Value::Null);
}
