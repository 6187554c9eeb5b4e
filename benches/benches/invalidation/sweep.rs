//! Removing by pattern a tenth of all keys, beside what one types.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use benches::{Figure, Sheet, rounds, runtime};
use cachalot_core::{Pattern, Tags};
use cachalot_testkit::{RedisServer, Server};
use tokio::runtime::Runtime;

use crate::Scale;
use crate::fixture::{NAME, Named, fill, without_memory};

const TIME: Figure = Figure::new("time", "ms");
const OURS: &str = "remove_pattern";
/// More keys than a cache makes for itself, whatever it holds.
const OWN: usize = 8;
const TYPED: &str = "redis-cli | xargs redis-cli";

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    let (server, runtime) = (RedisServer::start(), runtime());
    let cache = without_memory(&runtime, &server.url(), |builder| builder);
    let case = format!("pattern: {} of {} keys", scale.matching, scale.keys);
    eprintln!("  storing {} keys", scale.keys);
    let others = (scale.matching..scale.keys).map(|n| format!("cold:{n}"));
    runtime.block_on(fill(&cache, others, &Tags::NONE));
    let mut contenders: Vec<(&str, Removing)> = vec![(OURS, &ours), (TYPED, &typed)];
    if Command::new("redis-cli").arg("--version").output().is_err() {
        eprintln!("  redis-cli is not installed: nothing to compare with");
        contenders.truncate(1);
    }
    rounds(scale.long_rounds, "pattern", &mut contenders, |(name, remove)| {
        let matching = (0..scale.matching).map(|n| format!("hot:{n}"));
        runtime.block_on(fill(&cache, matching, &Tags::NONE));
        assert!((scale.keys..scale.keys + OWN).contains(&keys(&server)), "not all is there");
        let took = remove(&runtime, &cache, &server);
        let left = scale.keys - scale.matching;
        assert!((left..left + OWN).contains(&keys(&server)), "{name} has removed others");
        sheet.add(&case, name, TIME, took.as_secs_f64() * 1e3);
    });
    sheet.compare(&case, TIME.metric, OURS, Figure::new("time / remove_pattern", "ratio"));
}

/// How long it takes one way to remove what matches.
type Removing = &'static dyn Fn(&Runtime, &Named, &Server) -> Duration;

fn ours(runtime: &Runtime, cache: &Named, _: &Server) -> Duration {
    let begin = Instant::now();
    let removed = runtime.block_on(cache.remove_pattern(&Pattern::prefix("hot:")));
    assert!(removed.is_ok_and(|removal| removal == cachalot_strategies::Removal::Removed));
    begin.elapsed()
}

/// As one types it; the scan goes by pages of ten keys.
fn typed(_: &Runtime, _: &Named, server: &Server) -> Duration {
    let port = server.port();
    let scan = format!("redis-cli -p {port} --scan --pattern '{NAME}:hot:*'");
    let begin = Instant::now();
    let line = format!("{scan} | xargs redis-cli -p {port} unlink");
    let ended = Command::new("sh").args(["-c", &line]).output();
    assert!(ended.is_ok_and(|output| output.status.success()), "{line}");
    begin.elapsed()
}

/// How many keys the server holds.
fn keys(server: &Server) -> usize {
    let asked = || {
        let mut stream = TcpStream::connect(server.addr())?;
        stream.write_all(b"DBSIZE\r\nQUIT\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = asked().unwrap_or_else(|error| panic!("no DBSIZE: {error}"));
    let count = answer.lines().find_map(|line| line.strip_prefix(':')?.parse().ok());
    count.unwrap_or_else(|| panic!("no DBSIZE: {answer}"))
}
