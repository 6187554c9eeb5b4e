//! What others see of ours, and what becomes of theirs.

use cachalot_core::{Backend, Expired, Held, Key, LeaseBackend, LeaseReply, PutReply, Removed, TagBackend};

use crate::support::{Fixture, TERM, TTL, patient, put, token};

#[tokio::test]
async fn a_clean_key_is_what_it_is_called_in_the_server() {
    let f = Fixture::start().await;
    f.store("v").await;
    assert!(f.raw("mg users:1 s\r\n").starts_with("HD s45"), "a header of 44 bytes and the payload");
    let prefixed = patient(f.server.url()).key_prefix("shop:").connect().await.unwrap();
    prefixed.get_or_lease(&f.key, token(), TERM, None).await.unwrap();
    assert!(f.raw("mg shop:users:1 s\r\n").starts_with("HD s0"));
    let odd = Key::new("a b");
    f.backend.get_or_lease(&odd, token(), TERM, None).await.unwrap();
    assert!(f.raw("mg YSBi b s\r\n").starts_with("HD s0"), "the server keeps the bytes themselves");
}

#[tokio::test]
async fn foreign_items_are_no_values_and_give_way() {
    let f = Fixture::start().await;
    for item in
        ["set users:1 0 0 3\r\nabc\r\n", "set users:1 0 0 0\r\n\r\n", "set users:1 3395158273 0 3\r\nabc\r\n"]
    {
        f.raw(item);
        assert_eq!(f.read().await, None, "{item:?}");
        assert!(!f.backend.touch(&f.key, put("").nonce, TTL).await.unwrap());
        let owner = token();
        let reply = f.lease(owner).await;
        assert!(matches!(reply, LeaseReply::Lease { stale: None }), "{item:?}: {reply:?}");
        assert_eq!(f.put_leased(owner, put("v")).await, PutReply::Stored);
        f.raw(item);
        assert_eq!(f.backend.hold(&f.key, owner, TERM).await.unwrap(), Held::Held);
        f.raw(item);
        assert_ne!(f.backend.put_held(&f.key, owner, put("v")).await.unwrap(), PutReply::Stored);
        f.raw(item);
        assert_eq!(f.backend.expire(&f.key, TTL).await.unwrap(), Expired::Nothing);
        f.raw(item);
        assert_eq!(f.backend.remove(&f.key).await.unwrap(), Removed::Existing);
    }
}

#[tokio::test]
async fn a_foreign_delete_a_flush_and_a_set_revoke_a_lease() {
    let f = Fixture::start().await;
    for (command, reply) in [
        ("delete users:1\r\n", PutReply::Absent),
        ("flush_all\r\n", PutReply::Absent),
        ("set users:1 0 0 3\r\nabc\r\n", PutReply::Lost),
    ] {
        let owner = token();
        f.lease(owner).await;
        f.raw(command);
        assert_eq!(f.put_leased(owner, put("old")).await, reply, "{command:?}");
        assert_eq!(f.read().await, None);
        f.backend.remove(&f.key).await.unwrap();
    }
}

#[tokio::test]
async fn a_foreign_item_under_a_tags_name_is_no_token_and_gives_way() {
    let f = Fixture::start().await;
    let names = [Key::new("users#a")];
    let fresh = || [cachalot_core::TagToken::draw(&cachalot_core::Entropy::thread())];
    f.raw("set users#a 0 0 3\r\nabc\r\n");
    assert_eq!(f.backend.tag_tokens(&names).await.unwrap(), [None]);
    // The token that was sent is spent; the next one to ask puts another.
    f.backend.pin_tags(&names, &fresh(), TTL).await.unwrap_err();
    let second = fresh();
    assert_eq!(f.backend.pin_tags(&names, &second, TTL).await.unwrap(), second);
    f.raw("set users#a 0 0 3\r\nabc\r\n");
    let third = fresh();
    f.backend.rotate_tags(&names, &third, cachalot_core::Depth::Expire, TTL).await.unwrap();
    assert_eq!(f.backend.tag_tokens(&names).await.unwrap(), [Some(third[0])]);
}
