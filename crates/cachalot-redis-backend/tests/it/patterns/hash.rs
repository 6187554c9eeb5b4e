use cachalot_core::ErrorKind;
use cachalot_core::codec::Json;

use super::*;

#[tokio::test]
async fn an_object_is_set_with_its_time_and_read_whole_or_by_field() {
    let (server, patterns) = start().await;
    let users = patterns.hashes(&namespace("users"), Json);
    let ann = users.object().with("name", &"Ann".to_owned()).unwrap().with("visits", &3_u64).unwrap();
    users.set(&7_u32, &ann, MINUTE).await.unwrap();
    assert_eq!(ask::<String>(&server, &["HGET", "users:7", "visits"]), "3");
    let left: i64 = ask(&server, &["PTTL", "users:7"]);
    assert!((50_000..=60_000).contains(&left), "{left}");
    let found = users.get(&7_u32).await.unwrap().unwrap();
    assert_eq!(found.field::<String>("name").unwrap().as_deref(), Some("Ann"));
    assert_eq!((found.field::<u64>("visits").unwrap(), found.field::<u64>("age").unwrap()), (Some(3), None));
    assert_eq!(found.len(), 2);
    assert_eq!(users.field::<u64>(&7_u32, "visits").await.unwrap(), Some(3));
    assert_eq!(users.field::<u64>(&7_u32, "age").await.unwrap(), None);
    assert!(users.get(&8_u32).await.unwrap().is_none());
    assert!(!format!("{found:?}").contains("Ann"), "{found:?}");
}

#[tokio::test]
async fn an_object_that_is_set_again_has_none_of_the_old_fields() {
    let (_server, patterns) = start().await;
    let users = patterns.hashes(&namespace("users"), Json);
    let old = users.object().with("name", &"Ann".to_owned()).unwrap().with("age", &40_u32).unwrap();
    users.set("a", &old, MINUTE).await.unwrap();
    users.set("a", &users.object().with("name", &"Bob".to_owned()).unwrap(), MINUTE).await.unwrap();
    let found = users.get("a").await.unwrap().unwrap();
    assert_eq!((found.len(), found.field::<String>("name").unwrap().as_deref()), (1, Some("Bob")));
}

#[tokio::test]
async fn an_update_keeps_the_time_to_live_and_makes_no_object() {
    let (server, patterns) = start().await;
    let users = patterns.hashes(&namespace("users"), Json);
    assert!(!users.update("a", "visits", &1_u32).await.unwrap());
    assert_eq!(ask::<i64>(&server, &["EXISTS", "users:a"]), 0);
    users.set("a", &users.object().with("visits", &1_u32).unwrap(), MINUTE).await.unwrap();
    tell(&server, &["PEXPIRE", "users:a", "20000"]);
    assert!(users.update("a", "visits", &2_u32).await.unwrap());
    assert!(users.update("a", "more", &3_u32).await.unwrap());
    let left: i64 = ask(&server, &["PTTL", "users:a"]);
    assert!((10_000..=20_000).contains(&left), "{left}");
    assert_eq!(users.field::<u32>("a", "visits").await.unwrap(), Some(2));
    assert!(users.remove("a").await.unwrap());
    assert!(!users.remove("a").await.unwrap());
    assert!(!users.update("a", "visits", &1_u32).await.unwrap());
}

#[tokio::test]
async fn an_object_without_fields_or_without_time_is_none() {
    let (server, patterns) = start().await;
    let users = patterns.hashes(&namespace("users"), Json);
    let some = users.object().with("visits", &1_u32).unwrap();
    for (object, ttl) in
        [(users.object(), MINUTE), (users.object().with("n", &1_u32).unwrap(), Duration::ZERO)]
    {
        users.set("a", &some, MINUTE).await.unwrap();
        users.set("a", &object, ttl).await.unwrap();
        assert_eq!(ask::<i64>(&server, &["EXISTS", "users:a"]), 0);
    }
    users.set("a", &some, Duration::MAX).await.unwrap();
    assert!(ask::<i64>(&server, &["PTTL", "users:a"]) > 0);
}

#[tokio::test]
async fn a_field_of_another_type_is_an_error_that_names_the_key_and_shows_no_value() {
    let (server, patterns) = start().await;
    let users = patterns.hashes(&namespace("users"), Json);
    tell(&server, &["HSET", "users:a", "visits", "hunter2", "\u{fc}", "1"]);
    let error = users.field::<u64>("a", "visits").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("users:a") && !error.to_string().contains("hunter2"), "{error}");
    assert_eq!(users.get("a").await.unwrap().unwrap().field::<u64>("\u{fc}").unwrap(), Some(1));
}

/// Many update while the object is set anew and ends: there is never one without an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_object_is_ever_without_an_end_however_sets_updates_and_removals_meet() {
    let (server, patterns) = start().await;
    let users = patterns.hashes(&namespace("users"), Json);
    let tasks: Vec<_> = (0..20_u32)
        .map(|n| {
            let users = users.clone();
            tokio::spawn(async move {
                for round in 0..30_u32 {
                    match (n + round) % 5 {
                        0 => users.set("a", &users.object().with("n", &n).unwrap(), MINUTE).await.unwrap(),
                        1 => drop(users.remove("a").await.unwrap()),
                        _ => drop(users.update("a", "n", &n).await.unwrap()),
                    }
                }
            })
        })
        .collect();
    while tasks.iter().any(|task| !task.is_finished()) {
        let left: i64 = ask(&server, &["PTTL", "users:a"]);
        assert_ne!(left, -1, "an object without an end");
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_set_that_is_dropped_anywhere_leaves_the_old_object_or_the_new_one() {
    let (server, patterns) = start().await;
    let users = patterns.hashes(&namespace("users"), Json);
    let object = |n: u32| users.object().with("one", &n).unwrap().with("other", &n).unwrap();
    users.set("a", &object(0), MINUTE).await.unwrap();
    for pending in 0..6 {
        let new = object(pending + 1);
        dropped_after(pending as usize, users.set("a", &new, MINUTE)).await;
        let found = users.get("a").await.unwrap().unwrap();
        assert_eq!(found.field::<u32>("one").unwrap(), found.field::<u32>("other").unwrap());
        assert!(ask::<i64>(&server, &["PTTL", "users:a"]) > 0);
    }
}
