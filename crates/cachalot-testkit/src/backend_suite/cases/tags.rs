//! The tokens of tags.

use std::time::Duration;

use cachalot_core::{Depth, TagToken};

use super::super::{BackendSubject, LONG};

pub async fn a_tag_that_nobody_pinned_has_no_token(it: &BackendSubject) {
    let names = [it.key("tag"), it.key("other")];
    assert_eq!(it.tags().tag_tokens(&names).await.unwrap(), [None, None]);
    assert_eq!(it.tags().tag_tokens(&[]).await.unwrap(), []);
    assert_eq!(it.tags().pin_tags(&[], &[], LONG).await.unwrap(), []);
    it.tags().rotate_tags(&[], &[], Depth::Remove, LONG).await.unwrap();
}

pub async fn a_pinned_tag_keeps_its_token(it: &BackendSubject) {
    let names = [it.key("tag"), it.key("other")];
    let first = it.pin(&names, LONG).await;
    assert_ne!(first[0], first[1]);
    assert_eq!(it.tag_tokens(&names).await, [Some(first[0]), Some(first[1])]);
    assert_eq!(it.pin(&names, LONG).await, first);
}

pub async fn tags_are_answered_in_their_order(it: &BackendSubject) {
    let names: Vec<_> = (0..20).map(|n| it.key(&format!("tag{n}"))).collect();
    let even: Vec<_> = names.iter().step_by(2).cloned().collect();
    let pinned = it.pin(&even, LONG).await;
    let read = it.tag_tokens(&names).await;
    for (n, token) in read.iter().enumerate() {
        assert_eq!(*token, (n % 2 == 0).then(|| pinned[n / 2]), "{n}");
    }
    let all = it.pin(&names, LONG).await;
    assert!(pinned.iter().eq(all.iter().step_by(2)));
    let backwards: Vec<_> = names.iter().rev().cloned().collect();
    assert!(it.tag_tokens(&backwards).await.into_iter().rev().eq(all.into_iter().map(Some)));
}

pub async fn a_removed_tag_has_another_token(it: &BackendSubject) {
    let names = [it.key("tag"), it.key("other")];
    let before = it.pin(&names, LONG).await;
    let fresh = it.rotate(&names[..1], Depth::Remove).await;
    let after = it.tag_tokens(&names).await;
    assert_eq!(after, [Some(fresh[0]), Some(before[1])]);
    assert_eq!(it.pin(&names[..1], LONG).await, fresh);
}

pub async fn an_expired_tag_keeps_its_first_half(it: &BackendSubject) {
    let names = [it.key("tag")];
    let before = it.pin(&names, LONG).await[0];
    let fresh = it.rotate(&names, Depth::Expire).await[0];
    let after = TagToken { expired: fresh.expired, ..before };
    assert_eq!(it.tag_tokens(&names).await, [Some(after)]);
}

pub async fn rotating_a_tag_that_nobody_pinned_makes_its_token(it: &BackendSubject) {
    for depth in [Depth::Remove, Depth::Expire] {
        let names = [it.key(&format!("{depth:?}"))];
        let fresh = it.rotate(&names, depth).await;
        assert_eq!(it.tag_tokens(&names).await, [Some(fresh[0])], "{depth:?}");
    }
}

pub async fn a_tag_lives_for_as_long_as_asked(it: &BackendSubject) {
    let names = [it.key("short"), it.key("prolonged")];
    let first = it.pin(&names, it.short()).await;
    it.pin(&names[1..], LONG).await;
    it.pin(&names[1..], it.short()).await;
    let there = || async { assert_eq!(it.tag_tokens(&names).await[0], Some(first[0])) };
    it.pass_checking(it.short(), there).await;
    assert_eq!(it.tag_tokens(&names).await, [None, Some(first[1])]);
    assert_ne!(it.pin(&names[..1], LONG).await[0], first[0], "nothing comes back");
}

pub async fn an_expired_tag_lives_on(it: &BackendSubject) {
    let names = [it.key("tag")];
    it.pin(&names, LONG).await;
    let fresh = [it.tag_token()];
    it.tags().rotate_tags(&names, &fresh, Depth::Expire, it.short()).await.unwrap();
    it.pass(it.short() + Duration::from_millis(1)).await;
    assert_eq!(it.tag_tokens(&names).await[0].map(|token| token.expired), Some(fresh[0].expired));
}

pub async fn a_tag_beyond_all_bounds_of_time_is_kept(it: &BackendSubject) {
    let names = [it.key("tag")];
    let token = it.pin(&names, Duration::MAX).await[0];
    assert_eq!(it.tag_tokens(&names).await, [Some(token)]);
}
