//! Patterns beside the cache, each against a server of its own.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use cachalot_core::Namespace;
use cachalot_redis_backend::patterns::RedisPatterns;
use cachalot_testkit::RedisServer;
use redis::FromRedisValue;

use crate::support::{connect, raw};

mod batch;
mod cluster;
mod counter;
mod faults;
mod hash;
mod leaderboard;
mod publish;
mod queue;
mod rate_limit;
mod reliable_queue;

const MINUTE: Duration = Duration::from_secs(60);
/// More than anything may take, on a machine that is busy with other tests.
const AGES: Duration = Duration::from_secs(60);

async fn start() -> (RedisServer, RedisPatterns) {
    let server = RedisServer::start();
    let patterns = connect(server.url()).await.unwrap().patterns();
    (server, patterns)
}

fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

/// As somebody else asks.
fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    redis::cmd(words[0]).arg(&words[1..]).query(&mut raw(server)).unwrap()
}

fn tell(server: &RedisServer, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut raw(server)).unwrap();
}

/// Drops `future` when it has been pending so many times and once more. `None` if it had not ended by then.
async fn dropped_after<F: Future>(pending: usize, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (Box::pin(future), pending);
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Waits until so many clients are blocked in the server.
async fn until_blocked(server: &RedisServer, clients: u64) {
    let blocked = || -> u64 {
        let info: String = ask(server, &["INFO", "clients"]);
        info.lines().find_map(|line| line.strip_prefix("blocked_clients:")?.trim().parse().ok()).unwrap()
    };
    let work = async {
        while blocked() != clients {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(AGES, work).await.expect("the server does not say so");
}
