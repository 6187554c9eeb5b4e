//! Values, locks and tags beside foreigners.

use cachalot_core::codec::MsgPack;
use cachalot_core::envelope::Tagged;
use cachalot_core::{Backend, Held, LeaseBackend, PutReply};
use cachalot_core::{
    Depth, Entropy, ErrorKind, Expired, Holder, LeaseReply, Namespace, Pattern, Removed, SweepCursor, Tag,
    TagBackend, TagToken,
};
use cachalot_testkit::RedisServer;

use super::*;

fn hot() -> (Tag, Key) {
    let tag = Tag::new("hot").unwrap();
    let name = Namespace::new("user").unwrap().tag(&tag);
    (tag, name)
}

async fn pinned(f: &Plain) -> Vec<Tagged> {
    let (tag, name) = hot();
    let fresh = [TagToken::draw(&Entropy::thread())];
    let token = f.backend.pin_tags(&[name], &fresh, TTL).await.unwrap()[0];
    vec![Tagged { tag, token }]
}

async fn rotate(f: &Plain, depth: Depth) {
    let fresh = [TagToken::draw(&Entropy::thread())];
    f.backend.rotate_tags(&[hot().1], &fresh, depth, TTL).await.unwrap();
}

#[tokio::test]
async fn a_bare_value_is_its_json_and_lives_while_it_is_fresh() {
    let mut f = Plain::start(PlainForm::Bare).await;
    assert_eq!(f.store("Ann", &[]).await, PutReply::Stored);
    assert_eq!(f.text().as_deref(), Some("\"Ann\""));
    let left: i64 = f.ask(&["PTTL", "user:1"]);
    assert!((1..=60_000).contains(&left), "{left}");
    let keys: Vec<String> = f.ask(&["KEYS", "*"]);
    assert_eq!(keys, ["user:1"], "nothing else is left");
}

#[tokio::test]
async fn values_in_wrappers_say_their_times_by_the_servers_clock() {
    for (form, start, end) in [
        (PlainForm::Early, r#"{"value":"Ann","_expiry":"#, r#","_delta":0.250000}"#),
        (PlainForm::Stale, r#"{"value":"Ann","_fresh":"#, "}"),
    ] {
        let mut f = Plain::start(form).await;
        let (before, _): (f64, f64) = f.ask(&["TIME"]);
        assert_eq!(f.store("Ann", &[]).await, PutReply::Stored);
        let (after, _): (f64, f64) = f.ask(&["TIME"]);
        let text = f.text().unwrap();
        let until = text.strip_prefix(start).and_then(|text| text.strip_suffix(end));
        let until: f64 = until.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
        assert!((before + 60.0..=after + 61.0).contains(&until), "{until} {before}");
        let left: i64 = f.ask(&["PTTL", "user:1"]);
        assert!((60_001..=120_000).contains(&left), "{left}");
        assert_eq!(f.read().await.as_deref(), Some("\"Ann\""));
    }
}

#[tokio::test]
async fn all_forms_are_read_whatever_is_written() {
    let mut f = Plain::start(PlainForm::Bare).await;
    for text in [
        "\"Ann\"",
        r#"{"value": "Ann", "_expiry": 33000000000.5, "_delta": 0.1}"#,
        r#"{"value": "Ann", "_fresh": 33000000000}"#,
    ] {
        f.set(text);
        assert_eq!(f.read().await.as_deref(), Some("\"Ann\""), "{text}");
        let many = f.backend.get_many(&[Key::new("user:2"), f.key.clone()]).await;
        assert!(matches!(&many[..], [Ok(None), Ok(Some(_))]), "{text}");
    }
    f.set(r#"{"value": "Ann", "_fresh": "soon"}"#);
    assert_eq!(f.read().await, None);
}

#[tokio::test]
async fn a_foreign_lock_is_waited_for_and_not_stored_over() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let _: () = f.ask(&["SET", "lock:user:1", "python", "NX", "EX", "30"]);
    match f.lease(token()).await {
        LeaseReply::Busy { holder: Holder::Reader, remaining, stale: None } => {
            assert!(remaining > Duration::from_secs(20) && remaining <= Duration::from_secs(30));
        }
        reply => panic!("{reply:?}"),
    }
    assert_eq!(f.put(token(), put(&f.key, "old", &[])).await, PutReply::Lost);
    assert!(!f.backend.release(&f.key, token()).await.unwrap());
    assert_eq!(f.text(), None);
    let _: i64 = f.ask(&["DEL", "lock:user:1"]);
    assert!(matches!(f.lease(token()).await, LeaseReply::Lease { .. }));
}

#[tokio::test]
async fn a_lease_is_a_lock_that_foreigners_cannot_take() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let own = token();
    f.lease(own).await;
    let taken: Option<String> = f.ask(&["SET", "lock:user:1", "python", "NX", "EX", "30"]);
    assert_eq!(taken, None);
    let left: i64 = f.ask(&["PTTL", "lock:user:1"]);
    assert!((1..=5_000).contains(&left), "{left}");
    assert_eq!(f.put(own, put(&f.key, "Ann", &[])).await, PutReply::Stored);
    let taken: Option<String> = f.ask(&["SET", "lock:user:1", "python", "NX", "EX", "30"]);
    assert_eq!(taken.as_deref(), Some("OK"));
}

#[tokio::test]
async fn a_removal_ends_locks_of_anybody() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let own = token();
    f.lease(own).await;
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Existing);
    assert_eq!(f.put(own, put(&f.key, "old", &[])).await, PutReply::Absent);
    let _: () = f.ask(&["SET", "lock:user:1", "python", "NX", "EX", "30"]);
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Existing);
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Nothing);
}

/// What the documentation warns of.
#[tokio::test]
async fn a_foreign_del_and_a_foreign_setex_revoke_nothing() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let own = token();
    f.lease(own).await;
    let _: i64 = f.ask(&["DEL", "user:1"]);
    f.set("\"newer\"");
    assert_eq!(f.put(own, put(&f.key, "old", &[])).await, PutReply::Stored);
    assert_eq!(f.text().as_deref(), Some("\"old\""));
}

#[tokio::test]
async fn an_expiry_is_a_removal() {
    let mut f = Plain::start(PlainForm::Stale).await;
    f.store("Ann", &[]).await;
    assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), Expired::Nothing);
    assert_eq!(f.text(), None);
}

#[tokio::test]
async fn a_value_with_tags_is_in_their_sets_and_goes_with_each_of_them() {
    for depth in [Depth::Remove, Depth::Expire] {
        let mut f = Plain::start(PlainForm::Bare).await;
        let tags = pinned(&f).await;
        assert_eq!(f.store("Ann", &tags).await, PutReply::Stored);
        let members: Vec<String> = f.ask(&["SMEMBERS", "tag:hot"]);
        assert_eq!(members, ["user:1"]);
        rotate(&f, depth).await;
        assert_eq!((f.text(), f.ask::<i64>(&["EXISTS", "tag:hot"])), (None, 0));
        // What was loaded before is not stored after.
        assert_eq!(f.store("old", &tags).await, PutReply::Lost);
        assert_eq!((f.text(), f.ask::<i64>(&["EXISTS", "tag:hot", "lock:user:1"])), (None, 0));
        let tags = pinned(&f).await;
        assert_eq!(f.store("new", &tags).await, PutReply::Stored);
    }
}

#[tokio::test]
async fn a_token_that_is_lost_fits_nothing() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let tags = pinned(&f).await;
    let _: i64 = f.ask(&["DEL", "#hot"]);
    assert_eq!(f.store("old", &tags).await, PutReply::Lost);
    let writer = token();
    assert_eq!(f.backend.hold(&f.key, writer, TERM).await.unwrap(), Held::Held);
    let held = f.backend.put_held(&f.key, writer, put(&f.key, "old", &tags)).await.unwrap();
    assert_eq!((held, f.text()), (PutReply::Lost, None));
}

#[tokio::test]
async fn what_foreigners_have_tagged_goes_too_with_its_lock_and_of_all_caches() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let count = 1_200;
    for n in 0..count {
        let key = format!("product:{n}");
        let _: () = f.ask(&["SETEX", &key, "60", "1"]);
        let _: i64 = f.ask(&["SADD", "tag:hot", &key]);
    }
    let _: i64 = f.ask(&["SADD", "tag:hot", "user:gone"]);
    let _: i64 = f.ask(&["SADD", "tag:hot", "a:list"]);
    let _: i64 = f.ask(&["RPUSH", "a:list", "theirs"]);
    let _: () = f.ask(&["SET", "lock:product:1", "python"]);
    f.set("1");
    rotate(&f, Depth::Remove).await;
    let mut left: Vec<String> = f.ask(&["KEYS", "*"]);
    left.sort();
    assert_eq!(left, ["#hot", "a:list", "user:1"], "another type is left alone");
}

#[tokio::test]
async fn tags_are_refused_where_the_server_may_evict_their_sets() {
    let server = RedisServer::start_with(["--maxmemory-policy", "allkeys-lru"]);
    let f = Plain::on(server, PlainForm::Bare).await;
    let fresh = [TagToken::draw(&Entropy::thread())];
    let error = f.backend.pin_tags(&[hot().1], &fresh, TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("allkeys"), "{error}");
    // The epoch alone is no set's.
    let epoch = [Namespace::new("user").unwrap().epoch()];
    assert!(f.backend.pin_tags(&epoch, &fresh, TTL).await.is_ok());
    rotate(&f, Depth::Remove).await;
}

#[tokio::test]
async fn a_sweep_leaves_the_names_of_the_layout_alone() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let _: i64 = f.ask(&["SADD", "tag:user:x", "user:1"]);
    f.set("1");
    let _: () = f.ask(&["SET", "lock:user:2", "python"]);
    let pattern = Pattern::any().within(&Namespace::new("user").unwrap());
    let (mut removed, mut next) = (0, Some(SweepCursor::START));
    while let Some(from) = next {
        let swept = f.backend.sweep(&pattern, &from).await.unwrap();
        (removed, next) = (removed + swept.removed, swept.next);
    }
    let left: Vec<String> = f.ask(&["KEYS", "*"]);
    assert_eq!((removed, left), (2, vec![String::from("tag:user:x")]));
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let _: i64 = f.ask(&["RPUSH", "user:1", "theirs"]);
    assert_eq!(f.backend.get(&f.key).await.unwrap(), None);
    let lease = f.backend.get_or_lease(&f.key, token(), TERM, None).await;
    assert_eq!(lease.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(f.backend.hold(&f.key, token(), TERM).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Nothing);
    assert_eq!(f.ask::<i64>(&["LLEN", "user:1"]), 1);
}

#[tokio::test]
async fn keys_that_would_be_locks_or_tags_and_values_that_are_no_json_are_refused() {
    let f = Plain::start(PlainForm::Bare).await;
    let bad = Key::new("tag:hot");
    assert_eq!(f.backend.get(&bad).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(f.backend.remove(&bad).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(f.backend.hold(&bad, token(), TERM).await.unwrap_err().kind(), ErrorKind::Config);
    let many = f.backend.get_many(&[bad.clone(), f.key.clone()]).await;
    assert!(matches!(&many[..], [Err(_), Ok(None)]), "{many:?}");
    let put = put_by(&MsgPack, &f.key, "Ann", &[]);
    let error = f.backend.put_leased(&f.key, token(), put).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("codec(Json)"), "{error}");
}

#[tokio::test]
async fn a_script_that_the_server_has_forgotten_is_learnt_again_and_answers_stay_in_order() {
    let mut f = Plain::start(PlainForm::Bare).await;
    let keys: Vec<Key> = (0..600).map(|n| Key::new(format!("user:{n}"))).collect();
    for n in 0..600 {
        let _: () = f.ask(&["SET", &format!("user:{n}"), &n.to_string()]);
    }
    for _ in 0..2 {
        let _: () = f.ask(&["SCRIPT", "FLUSH"]);
        let read = f.backend.get_many(&keys).await;
        for (n, (answer, key)) in read.into_iter().zip(&keys).enumerate() {
            let record = answer.unwrap().unwrap();
            let value = envelope::open(key, &record.payload).unwrap().value.to_vec();
            assert_eq!(value, n.to_string().into_bytes());
        }
    }
    drop(f.server);
}
