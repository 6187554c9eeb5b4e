use cachalot_core::ErrorKind;
use cachalot_redis_backend::patterns::{Admission, RateLimit};

use super::*;

/// Makes all that was let through be so much older, as the server sees it; younger, if it is negative.
fn age(server: &RedisServer, key: &str, by: i64) {
    let script = "local text = redis.call('GET', KEYS[1])
        local parts = {string.sub(text, 1, 16)}
        for at = 17, #text, 8 do
          parts[#parts + 1] = struct.pack('>I8', struct.unpack('>I8', string.sub(text, at, at + 7)) - ARGV[1])
        end
        return redis.call('SET', KEYS[1], table.concat(parts), 'KEEPTTL')";
    tell(server, &["EVAL", script, "1", key, &by.to_string()]);
}

const SECOND_US: i64 = 1_000_000;

/// How many of so many are let through.
async fn admitted(limit: &RateLimit, tries: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..tries {
        admitted += usize::from(limit.check("ann").await.unwrap().is_allowed());
    }
    admitted
}

async fn retry_after(limit: &RateLimit) -> Duration {
    match limit.check("ann").await.unwrap() {
        Admission::Denied { retry_after } => retry_after,
        Admission::Allowed => panic!("let through"),
    }
}

#[tokio::test]
async fn so_many_are_let_through_and_the_next_is_told_when() {
    let (server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 3, MINUTE).unwrap();
    assert_eq!(admitted(&limit, 10).await, 3);
    let wait = retry_after(&limit).await;
    assert!(wait <= MINUTE && wait > MINUTE / 2, "{wait:?}");
    assert!(limit.check("bob").await.unwrap().is_allowed(), "each key its own");
    assert_eq!(ask::<usize>(&server, &["STRLEN", "api:ann"]), 16 + 3 * 8);
    assert!((1..=60_000).contains(&ask::<i64>(&server, &["PTTL", "api:ann"])));
}

#[tokio::test]
async fn the_window_slides_each_is_over_a_window_after_it_was_let_through() {
    let (server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 3, MINUTE).unwrap();
    assert_eq!(admitted(&limit, 2).await, 2);
    age(&server, "api:ann", 40 * SECOND_US);
    assert_eq!(admitted(&limit, 5).await, 1);
    let wait = retry_after(&limit).await;
    assert!(wait <= MINUTE / 3 && wait > MINUTE / 6, "{wait:?}");
    age(&server, "api:ann", 20 * SECOND_US);
    assert_eq!(admitted(&limit, 5).await, 2, "those two are over, the third is not");
    let wait = retry_after(&limit).await;
    assert!(wait <= MINUTE * 2 / 3 && wait > MINUTE / 3, "{wait:?}");
}

#[tokio::test]
async fn who_is_denied_and_goes_on_asking_is_let_in_as_soon_as_who_waits() {
    let (server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 2, MINUTE).unwrap();
    assert_eq!(admitted(&limit, 2).await, 2);
    let (life, record) =
        (ask::<i64>(&server, &["PTTL", "api:ann"]), ask::<Vec<u8>>(&server, &["GET", "api:ann"]));
    assert_eq!(admitted(&limit, 50).await, 0);
    assert_eq!(ask::<Vec<u8>>(&server, &["GET", "api:ann"]), record);
    assert!(ask::<i64>(&server, &["PTTL", "api:ann"]) <= life);
    age(&server, "api:ann", 60 * SECOND_US);
    assert_eq!(admitted(&limit, 50).await, 2);
}

/// However the requests lie in time, no window holds more than the limit, and none is denied without need: compared with
/// a list of all that were let through.
#[tokio::test]
async fn it_lets_through_what_a_list_of_all_times_would() {
    let (server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 4, Duration::from_secs(1_000)).unwrap();
    // Steps that real time cannot blur: each is a hundred seconds.
    let (mut now, mut listed, entropy) = (0_i64, Vec::<i64>::new(), cachalot_core::Entropy::seeded(11));
    for step in 0..150 {
        let passed = (entropy.draw_unit() * 4.0) as i64;
        if passed > 0 && !listed.is_empty() && ask::<i64>(&server, &["EXISTS", "api:ann"]) == 1 {
            age(&server, "api:ann", passed * 100 * SECOND_US);
        }
        now += passed;
        // Ten steps are a window; what was let through ten steps ago is over.
        let live = listed.iter().filter(|at| now - **at < 10).count();
        let allowed = limit.check("ann").await.unwrap().is_allowed();
        assert_eq!(allowed, live < 4, "step {step}, at {now}, let through {listed:?}");
        if allowed {
            listed.push(now);
        }
    }
    assert!(listed.len() > 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_tasks_at_once_are_let_through_up_to_the_limit() {
    let (_server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 42, MINUTE).unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let limit = limit.clone();
            tokio::spawn(async move { admitted(&limit, 3).await })
        })
        .collect();
    let mut all = 0;
    for task in tasks {
        all += task.await.unwrap();
    }
    assert_eq!(all, 42);
}

#[tokio::test]
async fn with_another_limit_what_was_let_through_counts_on() {
    let (server, patterns) = start().await;
    let limit = |limit| patterns.rate_limit(&namespace("api"), limit, MINUTE).unwrap();
    assert_eq!(admitted(&limit(5), 9).await, 5);
    age(&server, "api:ann", 10 * SECOND_US);
    assert_eq!(admitted(&limit(8), 9).await, 3, "five count already");
    assert_eq!(admitted(&limit(2), 9).await, 0);
    // Of the latest two only.
    let wait = retry_after(&limit(2)).await;
    assert!(wait > MINUTE * 5 / 6, "{wait:?}");
    age(&server, "api:ann", 60 * SECOND_US);
    assert_eq!(admitted(&limit(2), 9).await, 2);
    assert_eq!(ask::<usize>(&server, &["STRLEN", "api:ann"]), 16 + 2 * 8);
}

#[tokio::test]
async fn a_clock_that_is_put_back_keeps_nobody_out() {
    let (server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 2, MINUTE).unwrap();
    assert_eq!(admitted(&limit, 3).await, 2);
    age(&server, "api:ann", -3_600 * SECOND_US);
    assert_eq!(admitted(&limit, 5).await, 2);
}

#[tokio::test]
async fn a_check_that_is_dropped_anywhere_takes_one_place_at_most() {
    let (_server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 8, MINUTE).unwrap();
    let mut dropped = 0;
    for pending in 0..4 {
        dropped += usize::from(dropped_after(pending, limit.check("ann")).await.is_none());
    }
    let left = admitted(&limit, 20).await;
    assert!(dropped > 0 && (4..=8).contains(&left), "{dropped} {left}");
}

#[tokio::test]
async fn what_is_no_limit_s_is_left_alone() {
    let (server, patterns) = start().await;
    let limit = patterns.rate_limit(&namespace("api"), 8, MINUTE).unwrap();
    for text in ["", "5", "a text that is longer than any head"] {
        tell(&server, &["SET", "api:ann", text]);
        assert_eq!(limit.check("ann").await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(ask::<String>(&server, &["GET", "api:ann"]), text);
    }
    let wrong = [(0, MINUTE), (100_001, MINUTE), (1, Duration::ZERO), (1, Duration::from_secs(1 << 40))];
    for (count, window) in wrong {
        let error = patterns.rate_limit(&namespace("api"), count, window).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
