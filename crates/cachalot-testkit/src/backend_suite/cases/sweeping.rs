//! Removing by a pattern: what goes, what stays, and in how many parts.

use cachalot_core::{Holder, Key, LeaseReply, Pattern, PutReply, SweepCursor};

use super::super::{BackendSubject, LONG};

pub async fn a_sweep_of_nothing_ends(it: &BackendSubject) {
    let users = it.namespace("users");
    assert_eq!(it.sweep(&Pattern::any().within(&users)).await, 0);
    assert_eq!(it.sweep(&Pattern::new("").within(&users)).await, 0);
}

pub async fn a_sweep_removes_what_matches_and_nothing_else(it: &BackendSubject) {
    let users = it.namespace("users");
    let names = ["", "a", "b", "ab", "abc", "a:b", "A", "*", "a*", "[ab]", "x:1", "x:2"];
    let patterns = [
        ("", &[""][..]),
        ("a", &["a"]),
        ("a*", &["a", "ab", "abc", "a:b", "a*"]),
        ("?", &["a", "b", "A", "*"]),
        ("[ab]", &["a", "b"]),
        ("[^ab]", &["A", "*"]),
        ("*b*", &["b", "ab", "abc", "a:b", "[ab]"]),
        (r"\*", &["*"]),
        (r"a\*", &["a*"]),
        (r"\[ab]", &["[ab]"]),
        ("x:[0-1]", &["x:1"]),
        ("none", &[]),
        ("*", &names),
    ];
    for (glob, matched) in patterns {
        for name in names {
            it.store_again(&users.key(name), "v").await;
        }
        it.sweep(&Pattern::new(glob).within(&users)).await;
        for name in names {
            let left = it.text(&users.key(name)).await;
            assert_eq!(left.is_none(), matched.contains(&name), "{name:?} after {glob:?}");
        }
    }
}

pub async fn a_sweep_counts_what_it_removes(it: &BackendSubject) {
    let users = it.namespace("users");
    for name in ["a1", "a2", "b1"] {
        it.store(&users.key(name), name).await;
    }
    it.lease(&users.key("a3")).await;
    let pattern = Pattern::new("a*").within(&users);
    assert_eq!(it.sweep(&pattern).await, 3);
    assert_eq!(it.sweep(&pattern).await, 0);
}

pub async fn a_sweep_does_not_reach_into_a_neighbouring_namespace(it: &BackendSubject) {
    let (users, longer) = (it.namespace("users"), it.namespace("usersAbc"));
    it.store(&users.key("1"), "u").await;
    it.store(&longer.key("1"), "l").await;
    let alone = Key::new(users.as_str().to_owned());
    it.store(&alone, "a").await;
    it.sweep(&Pattern::any().within(&users)).await;
    assert_eq!(it.get(&users.key("1")).await, None);
    assert_eq!(it.text(&longer.key("1")).await.as_deref(), Some("l"));
    assert_eq!(it.text(&alone).await.as_deref(), Some("a"));
}

pub async fn a_sweep_revokes_leases(it: &BackendSubject) {
    let users = it.namespace("users");
    let (cold, warm, other) = (users.key("a:cold"), users.key("a:warm"), users.key("b"));
    let nonce = it.store(&warm, "v").await;
    let (for_cold, for_other) = (it.lease(&cold).await, it.lease(&other).await);
    let (for_warm, _) = it.lease_for(&warm, LONG / 2, Some(nonce)).await;
    it.sweep(&Pattern::prefix("a:").within(&users)).await;
    for (key, token) in [(&cold, for_cold), (&warm, for_warm)] {
        assert_ne!(it.put_leased(key, token, it.put("old", LONG)).await, PutReply::Stored, "{key:?}");
        assert_eq!(it.get(key).await, None, "{key:?}");
        assert!(it.is_free(key).await, "{key:?}");
    }
    assert_eq!(it.put_leased(&other, for_other, it.put("v", LONG)).await, PutReply::Stored);
}

pub async fn a_sweep_poisons_holds_until_their_deadline(it: &BackendSubject) {
    let users = it.namespace("users");
    let (held, short, other) = (users.key("a:held"), users.key("a:short"), users.key("b"));
    let (for_held, for_other) = (it.hold(&held).await, it.hold(&other).await);
    it.hold_for(&short, it.short()).await;
    it.sweep(&Pattern::prefix("a:").within(&users)).await;
    let reply = it.ask(&held, LONG, None).await.0;
    assert!(matches!(reply, LeaseReply::Busy { holder: Holder::Writer, .. }), "{reply:?}");
    assert_eq!(it.put_held(&held, for_held, it.put("v", LONG)).await, PutReply::Lost);
    assert_eq!(it.put_held(&other, for_other, it.put("v", LONG)).await, PutReply::Stored);
    it.pass(it.short()).await;
    assert!(it.is_free(&short).await);
}

pub async fn a_sweep_goes_over_many_keys_in_parts(it: &BackendSubject) {
    let users = it.namespace("users");
    let keys = it.store_many(&users, it.many()).await;
    let pattern = Pattern::new("*[05]").within(&users);
    assert_eq!(it.sweep(&pattern).await, u64::from(it.many() / 5));
    for (n, found) in it.backend.get_many(&keys).await.into_iter().enumerate() {
        assert_eq!(found.unwrap().is_none(), n % 5 == 0, "{n}");
    }
}

pub async fn a_part_of_a_sweep_may_be_done_again(it: &BackendSubject) {
    let users = it.namespace("users");
    let keys = it.store_many(&users, 100).await;
    let pattern = Pattern::any().within(&users);
    let (mut removed, mut next, mut parts) = (0, Some(SweepCursor::START), 0);
    while let Some(from) = next {
        removed += it.backend.sweep(&pattern, &from).await.expect("sweep").removed;
        let again = it.backend.sweep(&pattern, &from).await.expect("sweep");
        removed += again.removed;
        next = again.next;
        parts += 1;
        assert!(parts <= 100, "no end");
    }
    assert_eq!(removed, 100);
    assert!(it.backend.get_many(&keys).await.into_iter().all(|found| found.unwrap().is_none()));
}

/// Parts without a match are not the end.
pub async fn a_sweep_finds_few_among_many(it: &BackendSubject) {
    let users = it.namespace("users");
    it.store_many(&users, it.many()).await;
    let (first, last) = (users.key("!"), users.key("~"));
    for key in [&first, &last] {
        it.store(key, "v").await;
        assert_eq!(it.sweep(&Pattern::new("[!~]").within(&users)).await, 1);
        assert_eq!(it.get(key).await, None);
    }
}

pub async fn a_sweep_matches_any_bytes(it: &BackendSubject) {
    let users = it.namespace("users");
    let all: Vec<u8> = (0..=255).collect();
    let names: [&[u8]; 6] = [&all, b"\0", b"\xff\xfe", b"a\r\nb", b"\xc3\xbc", b"text"];
    for name in names {
        it.store(&users.key(name), "v").await;
    }
    for name in names {
        assert_eq!(it.sweep(&Pattern::literal(name).within(&users)).await, 1, "{name:?}");
        assert_eq!(it.get(&users.key(name)).await, None, "{name:?}");
    }
    let long = [&[b'k'; 5_000][..], b"\xff"].concat();
    for name in [&long[..], b"\x80\x81", b"b"] {
        it.store(&users.key(name), "v").await;
    }
    it.sweep(&Pattern::new(b"k*\xff").within(&users)).await;
    assert_eq!(it.get(&users.key(&long)).await, None, "a long key");
    it.sweep(&Pattern::new(b"[\x80-\x90]*").within(&users)).await;
    assert_eq!(it.get(&users.key(b"\x80\x81")).await, None);
    assert!(it.get(&users.key(b"b")).await.is_some());
}

pub async fn what_is_put_after_a_sweep_stays(it: &BackendSubject) {
    let users = it.namespace("users");
    let key = users.key("1");
    it.store(&key, "old").await;
    it.sweep(&Pattern::any().within(&users)).await;
    it.store(&key, "new").await;
    assert_eq!(it.text(&key).await.as_deref(), Some("new"));
}
