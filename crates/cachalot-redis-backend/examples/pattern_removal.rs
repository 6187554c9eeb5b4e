//! How long it takes to remove a tenth of many keys by a pattern, and what that does to a reader beside it; the same
//! by `redis-cli`. Starts a `redis-server` of its own and stops it at the end:
//! `cargo run --release -p cachalot-redis-backend --example pattern_removal -- 1000000`; 20,000 keys if not told.
// It speaks to people, and gives up if anything fails.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cachalot_core::{Backend, Key, Namespace, Pattern, SweepCursor};
use cachalot_redis_backend::{Redis, RedisBackend};
use cachalot_testkit::RedisServer;
use redis::Pipeline;

/// As many keys as told, a tenth of them under `users:3:`, another tenth ending in 3.
fn fill(server: &RedisServer, keys: usize) {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
    let mut record = b"CW\x01\x01".to_vec();
    record.resize(156, 7);
    for from in (0..keys).step_by(10_000) {
        let mut pipeline = Pipeline::new();
        for n in from..keys.min(from + 10_000) {
            pipeline.cmd("SET").arg(format!("users:{}:{n}", n / 10 % 10)).arg(&record).ignore();
        }
        pipeline.exec(&mut connection).unwrap();
    }
}

/// Reads one key again and again meanwhile: the slowest read and the mean, µs.
async fn read_meanwhile(backend: RedisBackend, ends: Arc<AtomicBool>) -> (u128, u128) {
    let key = Key::new("users:9:91");
    let (mut slowest, mut all, mut reads) = (0, 0, 0);
    while !ends.load(Ordering::Relaxed) {
        let began = Instant::now();
        backend.get(&key).await.unwrap();
        let took = began.elapsed().as_micros();
        (slowest, all, reads) = (slowest.max(took), all + took, reads + 1);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (slowest, all / reads.max(1))
}

/// Seconds of the server's processor time.
fn cpu(server: &RedisServer) -> f64 {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let info: String = redis::cmd("INFO").arg("cpu").query(&mut connection).unwrap();
    let part = |name| info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok()).unwrap();
    part("used_cpu_sys:") + part("used_cpu_user:")
}

async fn measure<F: Future<Output = u64>>(name: &str, server: &RedisServer, work: impl FnOnce() -> F) {
    let reader = Redis::connect(server.url()).await.unwrap();
    let ends = Arc::new(AtomicBool::new(false));
    let reads = tokio::spawn(read_meanwhile(reader, ends.clone()));
    let (began, before) = (Instant::now(), cpu(server));
    let removed = work().await;
    let (took, cpu) = (began.elapsed(), cpu(server) - before);
    ends.store(true, Ordering::Relaxed);
    let (slowest, mean) = reads.await.unwrap();
    println!(
        "{name:22} {took:>9.2?} ({cpu:.2} s of the server's)  {removed:>7} removed; reads beside it: {mean} µs, slowest {slowest} µs"
    );
}

async fn sweep(backend: &RedisBackend, glob: &str) -> u64 {
    let pattern = Pattern::new(glob).within(&Namespace::new("users").unwrap());
    let (mut removed, mut next) = (0, Some(SweepCursor::START));
    while let Some(from) = next {
        let part = backend.sweep(&pattern, &from).await.unwrap();
        removed += part.removed;
        next = part.next;
    }
    removed
}

async fn by_cli(port: u16, glob: String) -> u64 {
    let line = format!(
        "redis-cli -p {port} --scan --pattern '{glob}' | xargs -n 1000 redis-cli -p {port} unlink | awk '{{s+=$1}} END {{print s}}'"
    );
    let run = move || Command::new("sh").arg("-c").arg(line).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0)
}

#[tokio::main]
async fn main() {
    let server = RedisServer::start();
    let backend = Redis::builder(server.url()).deadline(Duration::from_secs(5)).connect().await.unwrap();
    let keys = std::env::args().nth(1).map_or(20_000, |keys| keys.parse().unwrap());
    for glob in ["3:*", "*3"] {
        fill(&server, keys);
        measure(&format!("cachalot users:{glob}"), &server, || sweep(&backend, glob)).await;
        fill(&server, keys);
        let whole = format!("users:{glob}");
        measure(&format!("redis-cli {whole}"), &server, || by_cli(server.port(), whole.clone())).await;
    }
}
