//! Lists of members: what becomes of them when the server forgets, or will not say who it is.

use std::time::Duration;

use cachalot_core::{ErrorKind, Key, Member, MemberBackend, Namespace, PublisherId};
use cachalot_redis_backend::RedisBackend;
use cachalot_testkit::RedisServer;

use crate::support::{Fixture, connect, patient, raw};

const TERM: Duration = Duration::from_secs(60);

fn registry() -> Key {
    Namespace::new("users").unwrap().members()
}

fn member(n: u8) -> Member {
    Member::new(PublisherId::from_bytes([n; 16]), "web")
}

async fn count(backend: &RedisBackend) -> usize {
    backend.roll(&registry()).await.unwrap().members.len()
}

#[tokio::test]
async fn a_server_that_comes_back_with_what_it_had_saved_begins_its_lists_anew() {
    let server = RedisServer::start_with(["--appendonly", "yes", "--appendfsync", "always"]);
    let backend = connect(server.url()).await.unwrap();
    let before = backend.enroll(&registry(), &member(1), TERM).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.restart();
    let mut connection = raw(&server);
    let kept: u64 = redis::cmd("EXISTS").arg("users@").query(&mut connection).unwrap();
    assert_eq!(kept, 1, "it is there, and says nothing of who is");
    // The connection has broken, and an enrolment is not sent twice.
    let roll = backend.roll(&registry()).await.unwrap();
    assert_eq!((roll.members, roll.age), (vec![], Duration::ZERO));
    let after = backend.enroll(&registry(), &member(1), TERM).await.unwrap();
    assert!(!after.was_listed);
    assert_ne!(after.registry, before.registry);
}

#[tokio::test]
async fn a_list_that_is_deleted_begins_anew() {
    let f = Fixture::start().await;
    let before = f.backend.enroll(&registry(), &member(1), TERM).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(f.backend.roll(&registry()).await.unwrap().age >= Duration::from_millis(29));
    redis::cmd("FLUSHALL").exec(&mut f.raw()).unwrap();
    let after = f.backend.enroll(&registry(), &member(2), TERM).await.unwrap();
    assert_ne!(after.registry, before.registry);
    let roll = f.backend.roll(&registry()).await.unwrap();
    assert!(roll.age < Duration::from_secs(10) && roll.members.len() == 1);
}

#[tokio::test]
async fn a_list_lies_under_one_key_which_ends_a_day_after_its_members() {
    let f = Fixture::start().await;
    for n in 0..3 {
        f.backend.enroll(&registry(), &member(n), TERM).await.unwrap();
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut f.raw()).unwrap();
    assert_eq!(keys, ["users@"]);
    let ends: i64 = redis::cmd("PTTL").arg("users@").query(&mut f.raw()).unwrap();
    let day = 86_400_000;
    assert!((day + 1..=day + 60_000).contains(&ends), "{ends}");
}

#[tokio::test]
async fn members_whose_terms_are_over_take_no_room() {
    let f = Fixture::start().await;
    for n in 0..20 {
        f.backend.enroll(&registry(), &member(n), Duration::from_millis(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(count(&f.backend).await, 0);
    let size: u64 = redis::cmd("ZCARD").arg("users@").query(&mut f.raw()).unwrap();
    assert_eq!(size, 1, "the mark of the run");
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_the_run_still_has_members() {
    let f = Fixture::start().await;
    let rules = ["SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info"];
    redis::cmd("ACL").arg(&rules).exec(&mut f.raw()).unwrap();
    let url = f.server.url().replace("redis://", "redis://app:pw@");
    let backend = patient(url).connect().await.unwrap();
    for was_listed in [false, true] {
        let enrolled = backend.enroll(&registry(), &member(1), TERM).await.unwrap();
        assert_eq!(enrolled.was_listed, was_listed);
    }
    assert_eq!(count(&backend).await, 1);
}

#[tokio::test]
async fn a_foreign_value_in_the_place_of_a_list_is_an_error_and_stays() {
    let f = Fixture::start().await;
    redis::cmd("SET").arg("users@").arg("mine").exec(&mut f.raw()).unwrap();
    let error = f.backend.enroll(&registry(), &member(1), TERM).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let there: String = redis::cmd("GET").arg("users@").query(&mut f.raw()).unwrap();
    assert_eq!(there, "mine");
}
