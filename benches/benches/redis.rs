//! Reads of 100-byte values from a redis-server of its own, client and server on the same machine.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::expect_used, reason = "a benchmark whose server fails has nothing to say")]

use benches::{concurrently, runtime};
use cachalot_testkit::RedisServer;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const CALLERS: [usize; 3] = [1, 64, 256];
const VALUE: [u8; 100] = [b'v'; 100];
const BATCH: usize = 100;

fn get(criterion: &mut Criterion) {
    for callers in CALLERS {
        let mut group = criterion.benchmark_group(format!("get_{callers}_callers"));
        group.throughput(Throughput::Elements(callers as u64));
        contender(&mut group, "cachalot", callers, ours::connect, ours::get);
        #[cfg(feature = "peers")]
        contender(&mut group, "redis_multiplexed", callers, peers::connect, peers::get);
        group.finish();
    }
}

fn get_many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("get_many_{BATCH}"));
    contender(&mut group, "cachalot", 1, ours::connect, ours::get_many);
    #[cfg(feature = "peers")]
    contender(&mut group, "redis_multiplexed", 1, peers::connect, peers::get_many);
    group.finish();
}

/// A client, and what it needs to live.
struct Rig<C> {
    client: C,
    runtime: Runtime,
    /// Stopped when dropped.
    _server: RedisServer,
}

impl<C> Rig<C> {
    fn new<F: Future<Output = C>>(connect: impl FnOnce(String) -> F) -> Self {
        let (server, runtime) = (RedisServer::start(), runtime());
        let client = runtime.block_on(connect(server.url()));
        Self { client, runtime, _server: server }
    }
}

/// Measures `callers` tasks at once, each of which calls `caller` with its handle of the client and the
/// number of operations to do. `connect` also stores what they read.
fn contender<C, F, G>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    callers: usize,
    connect: impl Fn(String) -> F,
    caller: impl Fn(C, u64) -> G,
) where
    C: Clone,
    F: Future<Output = C>,
    G: Future<Output = ()> + Send + 'static,
{
    // Criterion calls the closure for every sample; the server stays.
    let mut rig = None;
    group.bench_function(name, |bencher| {
        let rig = rig.get_or_insert_with(|| Rig::new(&connect));
        bencher.iter_custom(|each| {
            let all = concurrently(callers, || caller(rig.client.clone(), each));
            rig.runtime.block_on(all)
        });
    });
}

mod ours {
    use std::sync::Arc;
    use std::time::Duration;

    use cachalot_core::{Backend, Entropy, Key, LeaseBackend, Namespace, Nonce, Put, PutReply, Token};
    use cachalot_redis_backend::{Redis, RedisBackend};

    use super::{BATCH, VALUE};

    fn keys() -> Vec<Key> {
        let namespace = Namespace::new("bench").expect("a name");
        (0..BATCH).map(|n| namespace.key(&n)).collect()
    }

    pub(super) async fn connect(url: String) -> Arc<RedisBackend> {
        let backend = Redis::connect(url).await.expect("a connection");
        let leases = backend.leases().expect("a tier with leases");
        for key in keys() {
            store(leases, &key).await;
        }
        Arc::new(backend)
    }

    async fn store(leases: &dyn LeaseBackend, key: &Key) {
        let entropy = Entropy::thread();
        let token = Token::draw(&entropy);
        let put = Put {
            payload: VALUE.to_vec().into(),
            nonce: Nonce::draw(&entropy),
            ttl: Duration::from_secs(3600),
        };
        leases.hold(key, token, Duration::from_secs(10)).await.expect("a hold");
        let reply = leases.put_held(key, token, put).await.expect("a reply");
        assert_eq!(reply, PutReply::Stored);
    }

    pub(super) async fn get(backend: Arc<RedisBackend>, each: u64) {
        let key = &keys()[1];
        for _ in 0..each {
            let record = backend.get(key).await.expect("an answer").expect("a value");
            assert_eq!(record.payload.len(), VALUE.len());
        }
    }

    pub(super) async fn get_many(backend: Arc<RedisBackend>, each: u64) {
        let keys = keys();
        for _ in 0..each {
            let records = backend.get_many(&keys).await;
            assert!(records.iter().all(|record| matches!(record, Ok(Some(_)))));
        }
    }
}

#[cfg(feature = "peers")]
mod peers {
    #![allow(clippy::expect_used, reason = "a benchmark whose server fails has nothing to say")]

    use redis::aio::MultiplexedConnection;
    use redis::io::tcp::TcpSettings;
    use redis::{AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo};

    use super::{BATCH, VALUE};

    fn keys() -> Vec<String> {
        (0..BATCH).map(|n| format!("key:{n}")).collect()
    }

    pub(super) async fn connect(url: String) -> MultiplexedConnection {
        // At its fastest: no timer per command, and no Nagle, which it leaves on.
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = url.into_connection_info().expect("a URL of redis").set_tcp_settings(tcp);
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = Client::open(info).expect("a client");
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.expect("a connection");
        for key in keys() {
            connection.set::<_, _, ()>(key, &VALUE).await.expect("a value stored");
        }
        connection
    }

    pub(super) async fn get(mut connection: MultiplexedConnection, each: u64) {
        for _ in 0..each {
            let value: Vec<u8> = connection.get("key:1").await.expect("a value");
            assert_eq!(value.len(), VALUE.len());
        }
    }

    pub(super) async fn get_many(mut connection: MultiplexedConnection, each: u64) {
        let keys = keys();
        for _ in 0..each {
            let values: Vec<Vec<u8>> = connection.mget(&keys).await.expect("values");
            assert_eq!(values.len(), BATCH);
        }
    }
}

criterion_group!(benches, get, get_many);
criterion_main!(benches);
