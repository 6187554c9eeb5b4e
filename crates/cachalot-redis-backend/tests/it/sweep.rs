//! Removing by a pattern, against servers that page, forget and go away.

use std::collections::HashMap;

use cachalot_core::{
    Backend, Entropy, ErrorKind, Key, KeyPattern, LeaseBackend, Namespace, Pattern, PutReply, SweepCursor,
    Swept,
};
use cachalot_redis_backend::{Redis, RedisBackend};
use cachalot_testkit::RedisServer;
use redis::Pipeline;
use tokio::time::{Duration, sleep};

use crate::support::{Fixture, TERM, connect, patient, put, raw, token};

fn users() -> Namespace {
    Namespace::new("users").unwrap()
}

fn meant(glob: impl AsRef<[u8]>) -> KeyPattern {
    Pattern::new(glob).within(&users())
}

async fn part(backend: &RedisBackend, pattern: &KeyPattern, from: &SweepCursor) -> Swept {
    backend.sweep(pattern, from).await.unwrap()
}

/// Sweeps to the end: how many were removed, in how many parts.
async fn sweep(backend: &RedisBackend, pattern: &KeyPattern) -> (u64, usize) {
    let (mut removed, mut parts, mut next) = (0, 0, Some(SweepCursor::START));
    while let Some(from) = next {
        let swept = part(backend, pattern, &from).await;
        removed += swept.removed;
        parts += 1;
        next = swept.next;
    }
    (removed, parts)
}

/// Stores foreign values under `names`, which removals drop like our own.
fn fill(server: &RedisServer, names: impl IntoIterator<Item = Vec<u8>>) {
    let mut pipeline = Pipeline::new();
    for name in names {
        pipeline.cmd("SET").arg(name).arg("v").ignore();
    }
    pipeline.exec(&mut raw(server)).unwrap();
}

fn numbered(prefix: &str, count: usize) -> impl Iterator<Item = Vec<u8>> + use<> {
    let prefix = prefix.to_owned();
    (0..count).map(move |n| format!("{prefix}{n}").into_bytes())
}

fn size(server: &RedisServer) -> usize {
    redis::cmd("DBSIZE").query(&mut raw(server)).unwrap()
}

fn exists(server: &RedisServer, name: &[u8]) -> bool {
    redis::cmd("EXISTS").arg(name).query(&mut raw(server)).unwrap()
}

/// How often the server has run each command.
fn calls(server: &RedisServer) -> HashMap<String, usize> {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut raw(server)).unwrap();
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(line).collect()
}

#[tokio::test]
async fn many_keys_are_gone_over_in_pages_and_never_by_one_long_command() {
    let f = Fixture::start().await;
    fill(
        &f.server,
        numbered("users:a:", 6_000).chain(numbered("users:b:", 6_000)).chain(numbered("pages:", 3_000)),
    );
    let (removed, parts) = sweep(&f.backend, &meant("a:*")).await;
    assert_eq!(removed, 6_000);
    assert!(parts >= 10, "{parts}");
    assert_eq!(size(&f.server), 9_000);
    let calls = calls(&f.server);
    assert!((10..=30).contains(&calls["scan"]), "{calls:?}");
    let heavy = ["keys", "flushdb", "flushall", "del"];
    assert!(heavy.iter().all(|command| !calls.contains_key(*command)), "{calls:?}");
    // 250 keys each, and one more for each page that is not a multiple of that.
    assert!((24..=60).contains(&calls["unlink"]), "{calls:?}");
}

#[tokio::test]
async fn a_page_without_a_match_is_not_the_end() {
    let f = Fixture::start().await;
    fill(&f.server, numbered("users:b:", 5_000).chain([b"users:a".to_vec()]));
    let (mut empty, mut removed, mut next) = (0, 0, Some(SweepCursor::START));
    while let Some(from) = next {
        let swept = part(&f.backend, &meant("a"), &from).await;
        empty += usize::from(swept.removed == 0);
        removed += swept.removed;
        next = swept.next;
    }
    assert!(removed == 1 && empty >= 4, "{removed} {empty}");
    assert_eq!(size(&f.server), 5_000);
}

#[tokio::test]
async fn what_is_there_throughout_goes_while_the_table_grows_and_shrinks() {
    let f = Fixture::start().await;
    fill(&f.server, numbered("users:a:", 3_000));
    let pattern = meant("a:*");
    let (mut removed, mut next, mut round) = (0, Some(SweepCursor::START), 0);
    while let Some(from) = next {
        // First it grows to several times its size, then it shrinks again.
        match round {
            0..6 => fill(&f.server, numbered(&format!("pages:{round}:"), 3_000)),
            6..12 => {
                let mut unlink = Pipeline::new();
                let names = numbered(&format!("pages:{}:", round - 6), 3_000);
                for name in names {
                    unlink.cmd("UNLINK").arg(name).ignore();
                }
                unlink.exec(&mut f.raw()).unwrap();
            }
            _ => {}
        }
        let swept = part(&f.backend, &pattern, &from).await;
        removed += swept.removed;
        next = swept.next;
        round += 1;
    }
    assert_eq!(removed, 3_000);
    let left: Vec<Vec<u8>> = redis::cmd("KEYS").arg("users:*").query(&mut f.raw()).unwrap();
    assert!(left.is_empty(), "{} after {round} parts", left.len());
}

#[tokio::test]
async fn a_key_prefix_is_text_and_keeps_caches_apart() {
    let server = RedisServer::start();
    let prefixes = ["", "shop:", "shop*:", "s[h]op:", "shop\\:"];
    let mut backends = Vec::new();
    for prefix in prefixes {
        let backend = patient(server.url()).key_prefix(prefix).connect().await.unwrap();
        fill(&server, [format!("{prefix}users:1").into_bytes()]);
        backends.push(backend);
    }
    for (at, backend) in backends.iter().enumerate() {
        assert_eq!(size(&server), prefixes.len() - at);
        assert_eq!(sweep(backend, &meant("*")).await.0, 1, "{:?}", prefixes[at]);
    }
}

#[tokio::test]
async fn tokens_of_tags_are_no_keys() {
    let f = Fixture::start().await;
    let tags = f.backend.tags().unwrap();
    let name = users().epoch();
    let fresh = cachalot_core::TagToken::draw(&Entropy::thread());
    tags.pin_tags(std::slice::from_ref(&name), &[fresh], TERM).await.unwrap();
    assert_eq!(sweep(&f.backend, &meant("*")).await.0, 0);
    assert!(exists(&f.server, name.as_bytes()));
}

#[tokio::test]
async fn of_long_keys_all_go_that_may_be_meant() {
    let f = Fixture::start().await;
    let long = |start: &str, end: &str| users().key(&format!("{start}{}{end}", "x".repeat(600)));
    let (meant_one, other_end, other_start) = (long("a", "1"), long("a", "2"), long("b", "1"));
    let short = users().key("a1");
    let mut stored = Vec::new();
    for key in [&meant_one, &other_end, &other_start, &short] {
        let owner = token();
        f.backend.get_or_lease(key, owner, TERM, None).await.unwrap();
        f.backend.put_leased(key, owner, put("v")).await.unwrap();
        stored.push(key.clone());
    }
    let left = async || {
        let found = f.backend.get_many(&stored).await.into_iter();
        found.map(|found| found.unwrap().is_some()).collect::<Vec<_>>()
    };
    // What is not kept of them may be anything; what is kept rules some out.
    sweep(&f.backend, &meant("a*[3-9]")).await;
    assert_eq!(left().await, [false, false, true, true], "one too many rather than one too few");
    sweep(&f.backend, &meant("a*1")).await;
    assert_eq!(left().await, [false, false, true, false]);
    sweep(&f.backend, &meant("b?????")).await;
    assert_eq!(left().await, [false, false, true, false], "no long key is so short");
    sweep(
        &f.backend,
        &Pattern::literal(other_start.as_bytes().strip_prefix(b"users:").unwrap()).within(&users()),
    )
    .await;
    assert_eq!(left().await, [false; 4]);
}

#[tokio::test]
async fn a_walk_begins_anew_when_another_server_may_be_answering() {
    let f = Fixture::start().await;
    fill(&f.server, numbered("users:", 5_000));
    let pattern = meant("*");
    let first = part(&f.backend, &pattern, &SweepCursor::START).await;
    let from = first.next.unwrap();
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .exec(&mut f.raw())
        .unwrap();
    // The command that notices may fail; then it is done again.
    let again = loop {
        match f.backend.sweep(&pattern, &from).await {
            Ok(swept) => break swept,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(again, Swept { removed: 0, next: Some(SweepCursor::START) });
    assert_eq!(sweep(&f.backend, &pattern).await.0, 5_000 - first.removed);
    assert_eq!(size(&f.server), 0);
}

#[tokio::test]
async fn a_server_that_forgets_its_scripts_learns_them_again() {
    let f = Fixture::start().await;
    fill(&f.server, numbered("users:", 3_000));
    let (mut removed, mut next) = (0, Some(SweepCursor::START));
    while let Some(from) = next {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut f.raw()).unwrap();
        let swept = part(&f.backend, &meant("*"), &from).await;
        removed += swept.removed;
        next = swept.next;
    }
    assert_eq!((removed, size(&f.server)), (3_000, 0));
}

#[tokio::test]
async fn a_part_that_a_server_does_not_answer_ends_and_can_be_done_again() {
    let server = RedisServer::start();
    let backend = Redis::builder(server.url()).deadline(Duration::from_millis(300)).connect().await.unwrap();
    fill(&server, numbered("users:", 100));
    server.pause();
    let error = backend.sweep(&meant("*"), &SweepCursor::START).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("redis sweep failed: timeout after 300 ms (key users:*"), "{error}");
    server.resume();
    let patient = connect(server.url()).await.unwrap();
    sweep(&patient, &meant("*")).await;
    assert_eq!(size(&server), 0);
}

#[tokio::test]
async fn other_types_are_left_alone_and_foreign_strings_go() {
    let f = Fixture::start().await;
    redis::cmd("RPUSH").arg("users:list").arg("x").exec(&mut f.raw()).unwrap();
    redis::cmd("HSET").arg("users:hash").arg("x").arg("y").exec(&mut f.raw()).unwrap();
    fill(&f.server, [b"users:text".to_vec(), b"users:".to_vec()]);
    assert_eq!(sweep(&f.backend, &meant("*")).await.0, 2);
    assert!(exists(&f.server, b"users:list") && exists(&f.server, b"users:hash"));
    assert_eq!(size(&f.server), 2);
}

#[tokio::test]
async fn a_pattern_of_a_thousand_stars_means_the_same() {
    let f = Fixture::start().await;
    fill(&f.server, [format!("users:{}", "ab".repeat(1_200)).into_bytes()[..500].to_vec()]);
    fill(&f.server, [b"users:aaa".to_vec(), b"users:bbb".to_vec()]);
    assert_eq!(sweep(&f.backend, &meant("*a*".repeat(3))).await.0, 2);
    fill(&f.server, [b"users:aaa".to_vec()]);
    assert_eq!(sweep(&f.backend, &meant(format!("a{}", "*a".repeat(1_500)))).await.0, 0);
    assert_eq!(sweep(&f.backend, &meant(format!("a{}", "*".repeat(1_500)))).await.0, 1);
    assert!(exists(&f.server, b"users:bbb"));
}

#[tokio::test]
async fn a_cursor_of_another_backend_is_refused() {
    let f = Fixture::start().await;
    for place in ["x", "1", "1 x", " "] {
        assert!(f.backend.sweep(&meant("*"), &SweepCursor::new(place)).await.is_err(), "{place}");
    }
}

/// Bytes drawn from `letters`.
fn draw(entropy: &Entropy, letters: &[u8], most: u64) -> Vec<u8> {
    let length = entropy.draw_u64() % (most + 1);
    (0..length).map(|_| letters[entropy.draw_u64() as usize % letters.len()]).collect()
}

/// What the server finds by each of `patterns`.
fn found_by_server(server: &RedisServer, patterns: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut pipeline = Pipeline::new();
    for pattern in patterns {
        pipeline.cmd("SCAN").arg(0).arg("MATCH").arg(pattern).arg("COUNT").arg(1_000_000);
    }
    let pages: Vec<(u64, Vec<Vec<u8>>)> = pipeline.query(&mut raw(server)).unwrap();
    pages
        .into_iter()
        .map(|(cursor, mut names)| {
            assert_eq!(cursor, 0, "all in one page");
            names.sort_unstable();
            names
        })
        .collect()
}

/// Some 2 million pairs of a pattern and a text, of few letters, so that much matches.
#[test]
fn patterns_match_as_the_servers_own_matcher_does() {
    let server = RedisServer::start();
    let all: Vec<u8> = (0..=255).collect();
    let alphabets: [&[u8]; 3] = [b"**??[[]]^--\\\\aabbc", b"[[]^-\\a\x7f\x80\xffz*", &all];
    for seed in 0..12 {
        let entropy = Entropy::seeded(seed);
        let letters = alphabets[seed as usize % alphabets.len()];
        let single = alphabets[2].iter().map(|byte| vec![*byte]);
        let mut texts: Vec<Vec<u8>> = (0..400).map(|_| draw(&entropy, letters, 5)).chain(single).collect();
        // The empty text is the one that Redis' commands disagree about.
        texts.retain(|text| !text.is_empty());
        texts.sort_unstable();
        texts.dedup();
        redis::cmd("FLUSHALL").exec(&mut raw(&server)).unwrap();
        fill(&server, texts.iter().cloned());
        let ranges = (0..50).map(|_| {
            let [low, high] = [entropy.draw_u64() as u8, entropy.draw_u64() as u8];
            vec![b'[', low, b'-', high, b']']
        });
        let globs: Vec<Vec<u8>> = (0..300).map(|_| draw(&entropy, letters, 9)).chain(ranges).collect();
        let written: Vec<Vec<u8>> = globs.iter().map(|glob| Pattern::new(glob).as_bytes().to_vec()).collect();
        let by_server = found_by_server(&server, &globs).into_iter().zip(found_by_server(&server, &written));
        for (glob, (found, found_again)) in globs.iter().zip(by_server) {
            let pattern = Pattern::new(glob);
            let matched: Vec<&Vec<u8>> = texts.iter().filter(|text| pattern.matches(text)).collect();
            let glob = glob.escape_ascii();
            assert!(matched.iter().copied().eq(&found), "seed {seed}, {glob}: {matched:?} {found:?}");
            assert_eq!(found, found_again, "seed {seed}, {glob}, written again as {pattern}");
        }
    }
}

#[tokio::test]
async fn the_empty_key_is_matched_by_a_star() {
    let f = Fixture::start().await;
    fill(&f.server, [b"users:".to_vec()]);
    assert_eq!(sweep(&f.backend, &meant("*")).await.0, 1);
    f.backend.get_or_lease(&Key::new("users:"), token(), TERM, None).await.unwrap();
    assert_eq!(sweep(&f.backend, &meant("")).await.0, 1);
}

/// Puts that were on their way, landing between the parts of a sweep.
#[tokio::test]
async fn no_right_to_store_from_before_a_sweep_is_good_after_it() {
    let f = Fixture::start().await;
    let keys: Vec<Key> = (0..3_000).map(|n: u32| users().key(&n)).collect();
    let mut rights = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let owner = token();
        match n % 2 {
            0 => drop(f.backend.get_or_lease(key, owner, TERM * 10, None).await.unwrap()),
            _ => drop(f.backend.hold(key, owner, TERM * 10).await.unwrap()),
        }
        rights.push((key, owner, n % 2 == 1));
    }
    // In the order of the keys, which is not that of the pages.
    let mut rights = rights.into_iter();
    let mut next = Some(SweepCursor::START);
    while let Some(from) = next {
        for (key, owner, is_hold) in rights.by_ref().take(400) {
            match is_hold {
                true => f.backend.put_held(key, owner, put("old")).await.unwrap(),
                false => f.backend.put_leased(key, owner, put("old")).await.unwrap(),
            };
        }
        next = part(&f.backend, &meant("*"), &from).await.next;
    }
    assert!(rights.len() > 0, "some land afterwards");
    for (key, owner, is_hold) in rights {
        let reply = match is_hold {
            true => f.backend.put_held(key, owner, put("old")).await.unwrap(),
            false => f.backend.put_leased(key, owner, put("old")).await.unwrap(),
        };
        assert_ne!(reply, PutReply::Stored, "{key:?}");
    }
    for (key, found) in keys.iter().zip(f.backend.get_many(&keys).await) {
        assert_eq!(found.unwrap(), None, "{key:?}");
    }
}
