//! Gets of 100 bytes from a memcached, one at a time and many, by this backend and by other clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{Figure, Sheet, concurrently, rounds, runtime};
use cachalot_core::{Backend, Key};
use cachalot_memcached_backend::{Memcached, MemcachedBackend};
use cachalot_testkit::MemcachedServer;
use tokio::runtime::Runtime;

use crate::Scale;
use crate::fixture::{VALUE, fill, keys};
#[cfg(feature = "peers")]
use crate::peers;

const OURS: &str = "cachalot";
/// Keys of one call.
pub(crate) const BATCH: u64 = 100;

const PER_SECOND: Figure = Figure::higher("reads", "1/s");
const US: Figure = Figure::new("time a read", "us");
const RATIO: Figure = Figure::new("time / cachalot", "ratio");

/// A client that is connected, and the way in which it does so many gets with each of so many callers. The time that
/// they take in all.
pub(crate) type Contender = (&'static str, Box<dyn FnMut(u32) -> Duration>);

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    for callers in [1, 64] {
        let server = MemcachedServer::start();
        let case = format!("memcached, {callers} {}", if callers == 1 { "caller" } else { "callers" });
        let all = [
            ours(server.addr(), callers),
            #[cfg(feature = "peers")]
            peers::async_memcached(server.addr(), callers),
            #[cfg(feature = "peers")]
            peers::memcache(server.addr(), callers),
        ];
        let each = (scale.gets / callers as u32 * 4).clamp(1, scale.gets);
        measure(scale, sheet, &case, all, callers as u32 * each, each);
    }
    let server = MemcachedServer::start();
    let all = [
        ours_many(server.addr()),
        #[cfg(feature = "peers")]
        peers::async_memcached_many(server.addr()),
        #[cfg(feature = "peers")]
        peers::memcache_many(server.addr()),
    ];
    let calls = (scale.gets / 20).max(1);
    measure(scale, sheet, &format!("memcached, {BATCH} keys a call"), all, calls, calls);
}

/// `reads` are what all callers together do, `each` one of them.
fn measure<const N: usize>(
    scale: &Scale,
    sheet: &mut Sheet,
    case: &str,
    mut contenders: [Contender; N],
    reads: u32,
    each: u32,
) {
    rounds(scale.rounds, &format!("fleet  {case}"), &mut contenders, |(name, play)| {
        let time = play(each).as_secs_f64();
        sheet.add(case, name, PER_SECOND, f64::from(reads) / time);
        sheet.add(case, name, US, time * 1e6 / f64::from(reads));
    });
    sheet.compare(case, US.metric, OURS, RATIO);
}

fn ours(server: SocketAddr, callers: usize) -> Contender {
    let (runtime, backend, keys) = connected(server);
    let play = move |each| {
        let all = concurrently(callers, || gets(backend.clone(), keys[1].clone(), each));
        runtime.block_on(all)
    };
    (OURS, Box::new(play))
}

fn ours_many(server: SocketAddr) -> Contender {
    let (runtime, backend, keys) = connected(server);
    let play = move |calls| {
        runtime.block_on(async {
            let begin = Instant::now();
            for _ in 0..calls {
                let records = backend.get_many(&keys).await;
                assert!(
                    records.iter().all(|record| matches!(record, Ok(Some(_)))),
                    "a value that is not there"
                );
            }
            begin.elapsed()
        })
    };
    (OURS, Box::new(play))
}

/// With as many values as a call asks for.
fn connected(server: SocketAddr) -> (Runtime, Arc<MemcachedBackend>, Vec<Key>) {
    let (runtime, keys) = (runtime(), keys(BATCH));
    let backend = runtime.block_on(async {
        let backend = Memcached::connect(format!("memcache://{server}")).await;
        let backend = Arc::new(backend.expect("a connection"));
        fill(&backend, &keys).await;
        backend
    });
    (runtime, backend, keys)
}

async fn gets(backend: Arc<MemcachedBackend>, key: Key, each: u32) {
    for _ in 0..each {
        let record = backend.get(&key).await.expect("an answer").expect("a value");
        assert_eq!(record.payload.len(), VALUE.len());
    }
}
