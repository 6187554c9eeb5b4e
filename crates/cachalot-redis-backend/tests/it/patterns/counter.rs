use cachalot_core::ErrorKind;

use super::*;

#[tokio::test]
async fn it_counts_to_the_cap_and_no_further() {
    let (server, patterns) = start().await;
    let seats = patterns.capped_counter(&namespace("seats"), 3, MINUTE).unwrap();
    let mut counted = Vec::new();
    for _ in 0..5 {
        counted.push(seats.increment("a").await.unwrap());
    }
    assert_eq!(counted, [Some(1), Some(2), Some(3), None, None]);
    assert_eq!((seats.get("a").await.unwrap(), seats.get("b").await.unwrap()), (3, 0));
    assert_eq!(ask::<String>(&server, &["GET", "seats:a"]), "3", "what is refused is not counted");
    assert_eq!(seats.increment("b").await.unwrap(), Some(1), "each key its own");
    let none = patterns.capped_counter(&namespace("seats"), 0, MINUTE).unwrap();
    assert_eq!(none.increment("c").await.unwrap(), None);
    let lower = patterns.capped_counter(&namespace("seats"), 2, MINUTE).unwrap();
    assert_eq!(lower.increment("a").await.unwrap(), None);
}

#[tokio::test]
async fn its_life_begins_with_the_first_increment_and_is_never_prolonged() {
    let (server, patterns) = start().await;
    let seats = patterns.capped_counter(&namespace("seats"), 3, MINUTE).unwrap();
    seats.increment("a").await.unwrap();
    assert!((50_000..=60_000).contains(&ask::<i64>(&server, &["PTTL", "seats:a"])));
    tell(&server, &["PEXPIRE", "seats:a", "20000"]);
    for _ in 0..4 {
        seats.increment("a").await.unwrap();
        assert!((1..=20_000).contains(&ask::<i64>(&server, &["PTTL", "seats:a"])));
    }
    assert!(seats.reset("a").await.unwrap());
    assert!(!seats.reset("a").await.unwrap());
    assert_eq!(seats.increment("a").await.unwrap(), Some(1));
    assert!(ask::<i64>(&server, &["PTTL", "seats:a"]) > 20_000, "it begins again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_tasks_on_one_counter_count_exactly_to_the_cap() {
    let (_server, patterns) = start().await;
    for cap in [1, 37, 250] {
        let seats = patterns.capped_counter(&namespace("seats"), cap, MINUTE).unwrap();
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let seats = seats.clone();
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    for _ in 0..3 {
                        got.extend(seats.increment(&cap).await.unwrap());
                    }
                    got
                })
            })
            .collect();
        let mut got = Vec::new();
        for task in tasks {
            got.extend(task.await.unwrap());
        }
        got.sort_unstable();
        assert_eq!(got, (1..=cap).collect::<Vec<_>>(), "each number once, up to the cap");
    }
}

#[tokio::test]
async fn an_increment_that_is_dropped_anywhere_counts_once_or_not_at_all() {
    let (server, patterns) = start().await;
    let seats = patterns.capped_counter(&namespace("seats"), 1_000, MINUTE).unwrap();
    for pending in 0..8 {
        let before = seats.get("a").await.unwrap();
        dropped_after(pending, seats.increment("a")).await;
        let after = seats.get("a").await.unwrap();
        assert!((before..=before + 1).contains(&after), "{before} {after}");
        assert_ne!(ask::<i64>(&server, &["PTTL", "seats:a"]), -1, "never without an end");
    }
}

#[tokio::test]
async fn what_is_no_counter_is_neither_counted_nor_dropped() {
    let (server, patterns) = start().await;
    let seats = patterns.capped_counter(&namespace("seats"), 5, MINUTE).unwrap();
    for text in ["abc", "-1", "1.5", "", " 1", "99999999999999999999"] {
        tell(&server, &["SET", "seats:a", text]);
        assert_eq!(seats.increment("a").await.unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
        if text != "99999999999999999999" {
            assert_eq!(seats.get("a").await.unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
            assert_eq!(seats.reset("a").await.unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
        }
        assert_eq!(ask::<String>(&server, &["GET", "seats:a"]), text);
    }
}

#[tokio::test]
async fn settings_that_cannot_be_kept_are_refused() {
    let (_server, patterns) = start().await;
    for (cap, ttl) in [(u64::MAX, MINUTE), (5, Duration::ZERO), (5, Duration::from_micros(999))] {
        let error = patterns.capped_counter(&namespace("seats"), cap, ttl).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
