//! Sliding over a real server: what is read lives on there, and the reads write little.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cachalot::{Entry, Memory};
use cachalot_core::LoadFn;
use cachalot_strategies::{Cache, Sliding};
use cachalot_testkit::{RedisServer, block_on};
use integration_tests::connect;

type Node = Cache<u64, String, Memory<u64, Arc<Entry<String>>>>;

const IDLE: Duration = Duration::from_secs(3);

#[test]
fn a_read_only_load_over_redis_lives_on_and_writes_ten_times_a_ttl_at_most() {
    let server = RedisServer::start();
    block_on(async {
        let loads = Arc::new(AtomicU64::new(0));
        let mut nodes = Vec::new();
        for memory_ttl in [Duration::ZERO, IDLE / 100, Duration::MAX] {
            let cache: Node = Cache::builder("sessions")
                .memory(Memory::entries(16))
                .backend(connect(&server).await)
                .memory_ttl(memory_ttl)
                .ttl(IDLE)
                .max_age(Duration::from_secs(3600))
                .build()
                .unwrap();
            let loads = loads.clone();
            let source = LoadFn::new(move |_: u64| {
                loads.fetch_add(1, Ordering::Relaxed);
                async { Ok::<_, std::io::Error>(Some("Ada".to_owned())) }
            });
            nodes.push(Sliding::new(cache, source).unwrap());
        }
        let (began, mut reads) = (Instant::now(), 0);
        for node in &nodes {
            assert!(node.get(&1).await.unwrap().is_some());
        }
        let filled = ask(&server, "INFO commandstats");
        while began.elapsed() < IDLE * 3 / 2 {
            for node in &nodes {
                assert!(node.get(&1).await.unwrap().is_some());
                reads += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for node in &nodes {
            node.cache().shutdown(Duration::from_secs(60)).await.unwrap();
        }
        let ttls = began.elapsed().as_secs_f64() / IDLE.as_secs_f64();
        let stats = ask(&server, "INFO commandstats");
        let since = |command| calls(&stats, command) - calls(&filled, command);
        let writes = since("pexpire");
        let most = (10.0 * ttls).ceil() * nodes.len() as f64;
        println!("{writes} touches, {reads} reads, {ttls:.2} TTLs, {} processes", nodes.len());
        assert_eq!(loads.load(Ordering::Relaxed), 1, "it lives on");
        assert!(writes >= 5 && writes as f64 <= most, "{writes} touches in {ttls} TTLs");
        assert_eq!(nodes.iter().map(Sliding::touched).sum::<u64>(), writes);
        let others = ["set", "setrange", "del", "unlink", "pexpireat", "persist"].map(since);
        assert_eq!(others, [0; 6], "no other write");
    });
}

/// How often the server has done `command`.
fn calls(stats: &str, command: &str) -> u64 {
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

/// The bulk reply to `command`.
fn ask(server: &RedisServer, command: &str) -> String {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
