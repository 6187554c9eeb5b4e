use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cachalot_core::ErrorKind;
use cachalot_core::codec::Json;
use cachalot_redis_backend::patterns::Batch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;

fn prices(patterns: &RedisPatterns) -> Batch<u32> {
    patterns.batch(&namespace("prices"), Json)
}

#[tokio::test]
async fn what_is_set_is_read_in_the_order_of_the_keys_with_its_time_to_live() {
    let (server, patterns) = start().await;
    let prices = prices(&patterns);
    let values: Vec<(u32, u32)> = (0..1_000).map(|n| (n, n * 10)).collect();
    assert!(prices.set(&values, MINUTE).await.into_iter().all(|outcome| outcome.is_ok()));
    let keys: Vec<u32> = (0..1_002).rev().collect();
    let found: Vec<_> = prices.get(&keys).await.into_iter().map(|found| found.unwrap()).collect();
    let expected: Vec<_> = keys.iter().map(|n| (*n < 1_000).then_some(n * 10)).collect();
    assert_eq!(found, expected);
    for key in ["prices:0", "prices:999"] {
        assert!((50_000..=60_000).contains(&ask::<i64>(&server, &["PTTL", key])));
    }
    assert!(prices.set(&[(1, 1)], Duration::ZERO).await[0].is_ok());
    assert_eq!(prices.get(&[1_u32]).await.remove(0).unwrap(), None, "for no time is not at all");
    prices.set(&[(5, 1), (5, 2)], MINUTE).await;
    assert_eq!(
        prices.get(&[5_u32, 5]).await.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
        [Some(2); 2]
    );
}

#[tokio::test]
async fn one_key_that_fails_costs_no_other_its_value() {
    let (server, patterns) = start().await;
    let prices = prices(&patterns);
    prices.set(&[("a", 1), ("d", 4)], MINUTE).await;
    tell(&server, &["RPUSH", "prices:b", "x"]);
    tell(&server, &["SET", "prices:c", "hunter2"]);
    let found = prices.get(&["a", "b", "c", "d", "e"]).await;
    let kinds: Vec<_> = found.iter().map(|one| one.as_ref().map_err(|error| error.kind()).copied()).collect();
    assert_eq!(
        kinds,
        [Ok(Some(1)), Err(ErrorKind::Unsupported), Err(ErrorKind::Decode), Ok(Some(4)), Ok(None)]
    );
    let error = found[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("prices:b") && error.contains("another type"), "{error}");
    assert!(!found[2].as_ref().unwrap_err().to_string().contains("hunter2"));
    let small = crate::support::patient(server.url()).max_payload(8).connect().await.unwrap().patterns();
    let texts: Batch<String> = small.batch(&namespace("texts"), Json);
    let outcomes = texts.set(&[("a", "short".to_owned()), ("b", "much too long".to_owned())], MINUTE).await;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1].as_ref().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(ask::<i64>(&server, &["EXISTS", "texts:a", "texts:b"]), 1);
}

#[tokio::test]
async fn no_keys_are_no_round_trip() {
    let nowhere = cachalot_redis_backend::Redis::connect_lazy("redis://127.0.0.1:1").unwrap().patterns();
    let prices = prices(&nowhere);
    assert!(prices.get::<u32>(&[]).await.is_empty());
    assert!(prices.set::<u32>(&[], MINUTE).await.is_empty());
    assert_eq!(prices.get(&[1_u32]).await.remove(0).unwrap_err().kind(), ErrorKind::Unavailable);
}

/// What stands between a client and a server, and once armed lets no answer through before so many commands have come.
struct Dam {
    url: String,
    verb: &'static [u8],
    /// Commands that are still to come.
    wanted: AtomicUsize,
    opened: Notify,
}

impl Dam {
    async fn before(server: &RedisServer, verb: &'static [u8]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let dam = Arc::new(Self { url, verb, wanted: AtomicUsize::new(0), opened: Notify::new() });
        let (own, server) = (dam.clone(), server.addr());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from_client, mut to_client) = client.into_split();
                let server = TcpStream::connect(server).await.unwrap();
                let (mut from_server, mut to_server) = server.into_split();
                let (there, back) = (own.clone(), own.clone());
                tokio::spawn(async move {
                    let (mut part, mut seen) = ([0; 4096], Vec::new());
                    while let Ok(read @ 1..) = from_client.read(&mut part).await {
                        seen.extend_from_slice(&part[..read]);
                        there.count(&mut seen);
                        to_server.write_all(&part[..read]).await.unwrap();
                    }
                });
                tokio::spawn(async move {
                    let mut part = [0; 4096];
                    while let Ok(read @ 1..) = from_server.read(&mut part).await {
                        back.wait().await;
                        to_client.write_all(&part[..read]).await.unwrap();
                    }
                });
            }
        });
        dam
    }

    /// Strikes off the commands in `seen`, and keeps what may be the beginning of one.
    fn count(&self, seen: &mut Vec<u8>) {
        while let Some(at) = seen.windows(self.verb.len()).position(|part| part == self.verb) {
            seen.drain(..at + self.verb.len());
            let struck = |left: usize| Some(left.saturating_sub(1));
            let _ = self.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, struck);
        }
        seen.drain(..seen.len().saturating_sub(self.verb.len()));
        if self.wanted.load(Ordering::SeqCst) == 0 {
            self.opened.notify_waiters();
        }
    }

    async fn wait(&self) {
        loop {
            let opened = self.opened.notified();
            if self.wanted.load(Ordering::SeqCst) == 0 {
                return;
            }
            opened.await;
        }
    }
}

/// A second round trip would wait for an answer that only comes after all commands.
#[tokio::test]
async fn any_number_of_keys_is_one_round_trip() {
    let server = RedisServer::start();
    let values: Vec<(u32, u32)> = (0..500).map(|n| (n, n)).collect();
    let keys: Vec<u32> = (0..500).collect();
    for (verb, is_set) in [(&b"\r\nSET\r\n"[..], true), (b"\r\nGET\r\n", false)] {
        let dam = Dam::before(&server, verb).await;
        let prices = prices(&connect(&*dam.url).await.unwrap().patterns());
        // The connection and what it asks at first.
        prices.get(&[0_u32]).await;
        dam.wanted.store(500, Ordering::SeqCst);
        if is_set {
            assert!(prices.set(&values, MINUTE).await.into_iter().all(|outcome| outcome.is_ok()));
        } else {
            assert!(prices.get(&keys).await.into_iter().all(|found| found.unwrap().is_some()));
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_dropped_anywhere_leaves_the_connection_good_for_others() {
    let (_server, patterns) = start().await;
    let prices = prices(&patterns);
    let values: Vec<(u32, u32)> = (0..200).map(|n| (n, n)).collect();
    let keys: Vec<u32> = (0..200).collect();
    prices.set(&values, MINUTE).await;
    for pending in 0..6 {
        dropped_after(pending, prices.get(&keys)).await;
        dropped_after(pending, prices.set(&values, MINUTE)).await;
        let found: Vec<_> =
            prices.get(&keys).await.into_iter().map(|found| found.unwrap().unwrap()).collect();
        assert_eq!(found, keys, "answers of another call");
    }
}
