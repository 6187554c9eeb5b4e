//! Other clients of memcached, each as it is at its fastest: a connection of its own for every caller, and for the one
//! that blocks, a thread.

use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use async_memcached::{AsciiProtocol, Client};
use benches::runtime;
use tokio::task::JoinSet;

use crate::fixture::VALUE;
use crate::memcached::{BATCH, Contender};

const ASYNC: &str = "async-memcached";
const BLOCKING: &str = "memcache";

fn key(at: u64) -> String {
    format!("key:{at}")
}

pub(crate) fn async_memcached(server: SocketAddr, callers: usize) -> Contender {
    let runtime = runtime();
    let mut clients: Vec<Client> = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..callers {
            clients.push(filled(server).await);
        }
        clients
    });
    let play = move |each: u32| {
        runtime.block_on(async {
            let (begin, mut tasks) = (Instant::now(), JoinSet::new());
            for mut client in clients.drain(..) {
                tasks.spawn(async move {
                    for _ in 0..each {
                        let value = client.get("key:1").await.expect("an answer").expect("a value");
                        assert_eq!(value.data.map(|data| data.len()), Some(VALUE.len()));
                    }
                    client
                });
            }
            clients = tasks.join_all().await;
            begin.elapsed()
        })
    };
    (ASYNC, Box::new(play))
}

pub(crate) fn async_memcached_many(server: SocketAddr) -> Contender {
    let runtime = runtime();
    let mut client = runtime.block_on(filled(server));
    let keys: Vec<String> = (0..BATCH).map(key).collect();
    let play = move |calls: u32| {
        runtime.block_on(async {
            let begin = Instant::now();
            for _ in 0..calls {
                let values = client.get_multi(&keys).await.expect("values");
                assert_eq!(values.len(), keys.len());
            }
            begin.elapsed()
        })
    };
    (ASYNC, Box::new(play))
}

async fn filled(server: SocketAddr) -> Client {
    let mut client = Client::new(format!("tcp://{server}")).await.expect("a connection");
    for at in 0..BATCH {
        client.set(key(at), &VALUE[..], None, None).await.expect("a value stored");
    }
    client
}

pub(crate) fn memcache(server: SocketAddr, callers: usize) -> Contender {
    let client = blocking(server, callers as u32);
    let play = move |each: u32| {
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..callers {
                scope.spawn(|| {
                    for _ in 0..each {
                        let value: Option<Vec<u8>> = client.get("key:1").expect("an answer");
                        assert_eq!(value.map(|value| value.len()), Some(VALUE.len()));
                    }
                });
            }
        });
        begin.elapsed()
    };
    (BLOCKING, Box::new(play))
}

pub(crate) fn memcache_many(server: SocketAddr) -> Contender {
    let client = blocking(server, 1);
    let keys: Vec<String> = (0..BATCH).map(key).collect();
    let play = move |calls: u32| {
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let begin = Instant::now();
        for _ in 0..calls {
            let values = client.gets::<Vec<u8>>(&names).expect("values");
            assert_eq!(values.len(), names.len());
        }
        begin.elapsed()
    };
    (BLOCKING, Box::new(play))
}

fn blocking(server: SocketAddr, connections: u32) -> memcache::Client {
    let url = format!("memcache://{server}?protocol=ascii&tcp_nodelay=true");
    let client = memcache::Client::with_pool_size(url, connections).expect("a connection");
    for at in 0..BATCH {
        client.set(&key(at), &VALUE[..], 0).expect("a value stored");
    }
    client
}
