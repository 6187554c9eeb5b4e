use cachalot_core::ErrorKind;
use cachalot_redis_backend::patterns::{Leaderboard, Ranked};

use super::*;

fn members<M: Clone>(ranked: &[Ranked<M>]) -> Vec<M> {
    ranked.iter().map(|one| one.member.clone()).collect()
}

async fn filled() -> (RedisServer, Leaderboard) {
    let (server, patterns) = start().await;
    let board: Leaderboard = patterns.leaderboard(&namespace("scores"), "2024");
    for (member, score) in [("ann", 30.0), ("bob", 10.0), ("cat", 20.0), ("dan", 20.0), ("eve", -1.5)] {
        assert!(board.add(member, score).await.unwrap());
    }
    (server, board)
}

#[tokio::test]
async fn the_highest_score_comes_first_and_of_equals_the_greater_member() {
    let (_server, board) = filled().await;
    let top = board.top(10).await.unwrap();
    assert_eq!(members(&top), ["ann", "dan", "cat", "bob", "eve"]);
    assert_eq!(top.iter().map(|one| one.rank).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(top.iter().map(|one| one.score).collect::<Vec<_>>(), [30.0, 20.0, 20.0, 10.0, -1.5]);
    assert_eq!(members(&board.top(2).await.unwrap()), ["ann", "dan"]);
    assert!(board.top(0).await.unwrap().is_empty());
    for one in top {
        assert_eq!(board.rank(&one.member).await.unwrap(), Some(one.rank), "{}", one.member);
    }
    assert_eq!((board.rank("nobody").await.unwrap(), board.score_of("nobody").await.unwrap()), (None, None));
    assert_eq!(board.len().await.unwrap(), 5);
}

#[tokio::test]
async fn around_a_member_are_those_before_and_behind_it_and_fewer_at_the_ends() {
    let (_server, board) = filled().await;
    let around = async |member: &str, radius| board.around(member, radius).await.unwrap();
    let middle = around("cat", 1).await.unwrap();
    assert_eq!(members(&middle), ["dan", "cat", "bob"]);
    assert_eq!(middle[0].rank, 1);
    assert_eq!(members(&around("ann", 1).await.unwrap()), ["ann", "dan"]);
    assert_eq!(members(&around("eve", 1).await.unwrap()), ["bob", "eve"]);
    assert_eq!(members(&around("bob", 0).await.unwrap()), ["bob"]);
    assert_eq!(around("bob", u32::MAX).await.unwrap().len(), 5);
    assert_eq!(around("nobody", 2).await, None);
}

#[tokio::test]
async fn scores_are_set_added_to_and_struck_off_and_keep_all_their_bits() {
    let (_server, board) = filled().await;
    assert!(!board.add("ann", 0.1).await.unwrap());
    for score in [0.1 + 0.2, 9_007_199_254_740_991.0, 1e-300, -0.5] {
        board.add("ann", score).await.unwrap();
        assert_eq!(board.score_of("ann").await.unwrap(), Some(score));
    }
    assert_eq!(board.increment("ann", 0.75).await.unwrap(), 0.25);
    assert_eq!(board.increment("new", 2.0).await.unwrap(), 2.0);
    assert!(board.remove("ann").await.unwrap());
    assert!(!board.remove("ann").await.unwrap());
    assert_eq!(board.rank("ann").await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_finite_number_is_refused_before_anything_is_sent() {
    let (_server, board) = filled().await;
    for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(board.add("ann", score).await.unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(board.increment("ann", score).await.unwrap_err().kind(), ErrorKind::Config);
        let replaced = board.replace([("ann", 1.0), ("bob", score)]).await;
        assert_eq!(replaced.unwrap_err().kind(), ErrorKind::Config);
    }
    assert_eq!(board.score_of("ann").await.unwrap(), Some(30.0));
}

#[tokio::test]
async fn a_time_to_live_begins_with_the_first_member_and_no_later_one_prolongs_it() {
    let (server, patterns) = start().await;
    let board: Leaderboard<u32> = patterns.leaderboard(&namespace("scores"), "day").ttl(MINUTE);
    board.add(&1_u32, 1.0).await.unwrap();
    assert!((50_000..=60_000).contains(&ask::<i64>(&server, &["PTTL", "scores:day"])));
    tell(&server, &["PEXPIRE", "scores:day", "20000"]);
    board.increment(&2_u32, 1.0).await.unwrap();
    assert!(ask::<i64>(&server, &["PTTL", "scores:day"]) <= 20_000);
    board.replace([(&5_u32, 1.0)]).await.unwrap();
    assert!(ask::<i64>(&server, &["PTTL", "scores:day"]) > 20_000, "it begins again");
    let endless: Leaderboard<u32> = patterns.leaderboard(&namespace("scores"), "all");
    endless.add(&1_u32, 1.0).await.unwrap();
    assert_eq!(ask::<i64>(&server, &["PTTL", "scores:all"]), -1);
}

#[tokio::test]
async fn a_leaderboard_that_is_replaced_lists_the_new_members_alone() {
    let (_server, board) = filled().await;
    board.replace([("fay", 1.0), ("ann", 2.0), ("fay", 3.0)]).await.unwrap();
    assert_eq!(members(&board.top(10).await.unwrap()), ["fay", "ann"]);
    board.replace(std::iter::empty::<(&str, f64)>()).await.unwrap();
    assert!(board.is_empty().await.unwrap());
    let many: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    board.replace(many.iter().map(|member| (&**member, 1.0))).await.unwrap();
    assert_eq!(board.len().await.unwrap(), 20_000);
}

#[tokio::test]
async fn scores_that_are_raised_never_fall_in_whatever_order_they_come() {
    let (server, patterns) = start().await;
    let board: Leaderboard = patterns.leaderboard(&namespace("scores"), "sold").ttl(MINUTE);
    assert!(!board.raise_listed("ann", 5.0).await.unwrap());
    assert!(board.is_empty().await.unwrap(), "one that is not listed is not listed by that");
    board.raise([("ann", 3.0), ("bob", 7.0)]).await.unwrap();
    assert!((50_000..=60_000).contains(&ask::<i64>(&server, &["PTTL", "scores:sold"])));
    tell(&server, &["PEXPIRE", "scores:sold", "20000"]);
    assert!(board.raise_listed("ann", 5.0).await.unwrap());
    assert!(!board.raise_listed("ann", 4.0).await.unwrap());
    // Of an older state of things.
    board.raise([("ann", 3.0), ("bob", 8.0), ("cat", 1.0)]).await.unwrap();
    let top = board.top(9).await.unwrap();
    assert_eq!(members(&top), ["bob", "ann", "cat"]);
    assert_eq!(top.iter().map(|one| one.score).collect::<Vec<_>>(), [8.0, 5.0, 1.0]);
    assert!((1..=20_000).contains(&ask::<i64>(&server, &["PTTL", "scores:sold"])));
    assert_eq!(board.raise([("ann", f64::NAN)]).await.unwrap_err().kind(), ErrorKind::Config);
    board.raise(std::iter::empty::<(&str, f64)>()).await.unwrap();
}

#[tokio::test]
async fn a_member_that_is_of_another_type_is_an_error_and_no_wrong_member() {
    let (server, patterns) = start().await;
    let board: Leaderboard<u32> = patterns.leaderboard(&namespace("scores"), "x");
    tell(&server, &["ZADD", "scores:x", "1", "seven"]);
    assert_eq!(board.top(1).await.unwrap_err().kind(), ErrorKind::Decode);
}

#[tokio::test]
async fn it_reads_the_same_by_the_older_protocol() {
    let (server, board) = filled().await;
    let old = connect(format!("{}/?protocol=resp2", server.url())).await.unwrap().patterns();
    let old: Leaderboard = old.leaderboard(&namespace("scores"), "2024");
    assert_eq!(old.top(10).await.unwrap(), board.top(10).await.unwrap());
    assert_eq!(old.around("cat", 1).await.unwrap(), board.around("cat", 1).await.unwrap());
    assert_eq!(old.score_of("eve").await.unwrap(), Some(-1.5));
    assert_eq!(old.increment("eve", 1.0).await.unwrap(), -0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_tasks_that_add_at_once_lose_no_point() {
    let (_server, board) = filled().await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let board = board.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    board.increment("new", 1.0).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(board.score_of("new").await.unwrap(), Some(500.0));
}

#[tokio::test]
async fn a_replacement_that_is_dropped_anywhere_is_whole_or_has_not_been() {
    let (_server, board) = filled().await;
    for pending in 0..6 {
        board.replace([("ann", 1.0), ("bob", 1.0)]).await.unwrap();
        dropped_after(pending, board.replace([("cat", 2.0), ("dan", 2.0)])).await;
        let top = members(&board.top(10).await.unwrap());
        assert!(top == ["bob", "ann"] || top == ["dan", "cat"], "{top:?}");
    }
}
