//! Who is listed.

use std::time::Duration;

use cachalot_core::{Key, Member, Pattern};

use super::super::{BackendSubject, LONG};

pub async fn nobody_is_a_member_at_first(it: &BackendSubject) {
    let (registry, one) = (registry(it, "users"), it.member("one"));
    let roll = it.members().roll(&registry).await.unwrap();
    assert_eq!(roll.members, []);
    assert!(roll.age < LONG);
    assert!(!it.members().leave(&registry, &one).await.unwrap());
}

pub async fn who_enrolls_is_listed(it: &BackendSubject) {
    let (registry, one, two) = (registry(it, "users"), it.member("one"), it.member("one"));
    for member in [&one, &two] {
        assert!(!it.enroll(&registry, member, LONG).await.was_listed, "{member}");
    }
    assert_eq!(listed(it, &registry).await, sorted([one.clone(), two]));
    let roll = it.members().roll(&registry).await.unwrap();
    assert!(roll.members.iter().all(|(member, left)| member.name() == "one" && *left <= LONG));
    assert!(roll.members.iter().all(|(_, left)| *left > LONG / 2));
}

pub async fn who_renews_was_listed_in_the_same_registry(it: &BackendSubject) {
    let (registry, one, two) = (registry(it, "users"), it.member("one"), it.member("two"));
    let first = it.enroll(&registry, &one, it.short()).await;
    let other = it.enroll(&registry, &two, LONG).await;
    let again = it.enroll(&registry, &one, LONG).await;
    assert!(!first.was_listed && !other.was_listed && again.was_listed);
    assert_eq!([first.registry, other.registry], [again.registry; 2]);
    it.pass(it.short() * 2).await;
    assert!(listed(it, &registry).await.contains(&one), "for the new term");
}

pub async fn a_member_is_struck_off_when_its_term_ends(it: &BackendSubject) {
    let (registry, one, two) = (registry(it, "users"), it.member("one"), it.member("two"));
    it.enroll(&registry, &two, LONG).await;
    it.enroll(&registry, &one, it.short()).await;
    let there = || async { assert!(listed(it, &registry).await.contains(&one)) };
    it.pass_checking(it.short(), there).await;
    assert_eq!(listed(it, &registry).await, [two]);
}

pub async fn who_comes_back_after_its_term_was_not_listed(it: &BackendSubject) {
    let (registry, one) = (registry(it, "users"), it.member("one"));
    let first = it.enroll(&registry, &one, it.short()).await;
    it.pass(it.short()).await;
    let again = it.enroll(&registry, &one, LONG).await;
    assert!(!again.was_listed);
    assert_eq!(again.registry, first.registry);
    assert_eq!(listed(it, &registry).await, [one]);
}

pub async fn an_enrolment_never_shortens_a_term(it: &BackendSubject) {
    let (registry, one) = (registry(it, "users"), it.member("one"));
    it.enroll(&registry, &one, LONG).await;
    it.enroll(&registry, &one, it.short()).await;
    it.pass(it.short() * 2).await;
    assert_eq!(listed(it, &registry).await, [one]);
}

pub async fn who_leaves_is_struck_off_and_nobody_else(it: &BackendSubject) {
    let (registry, one, two) = (registry(it, "users"), it.member("one"), it.member("two"));
    for member in [&one, &two] {
        it.enroll(&registry, member, LONG).await;
    }
    assert!(it.members().leave(&registry, &one).await.unwrap());
    assert_eq!(listed(it, &registry).await, [two]);
    assert!(!it.members().leave(&registry, &one).await.unwrap());
    assert!(!it.enroll(&registry, &one, LONG).await.was_listed);
}

pub async fn the_members_of_other_caches_are_not_listed(it: &BackendSubject) {
    let (users, longer) = (registry(it, "users"), registry(it, "usersAbc"));
    let (one, two) = (it.member("one"), it.member("two"));
    it.enroll(&users, &one, LONG).await;
    it.enroll(&longer, &two, LONG).await;
    assert_eq!(listed(it, &users).await, std::slice::from_ref(&one));
    assert_eq!(listed(it, &longer).await, std::slice::from_ref(&two));
    assert!(!it.members().leave(&users, &two).await.unwrap());
    assert_eq!(listed(it, &longer).await, [two]);
}

pub async fn a_registry_grows_older_whoever_comes_and_goes(it: &BackendSubject) {
    let (registry, one, two) = (registry(it, "users"), it.member("one"), it.member("two"));
    it.enroll(&registry, &one, it.short()).await;
    it.pass(it.short()).await;
    it.enroll(&registry, &two, LONG).await;
    it.members().leave(&registry, &two).await.unwrap();
    let age = it.members().roll(&registry).await.unwrap().age;
    assert!(age >= it.short() && age < LONG, "{age:?}");
    assert!(!it.is_exact() || age == it.short(), "{age:?}");
}

pub async fn many_members_are_all_listed(it: &BackendSubject) {
    let registry = registry(it, "users");
    let members: Vec<_> = (0..100).map(|n| it.member(&format!("node {n}"))).collect();
    for member in &members {
        it.enroll(&registry, member, LONG).await;
    }
    assert_eq!(listed(it, &registry).await, sorted(members));
}

pub async fn a_sweep_leaves_the_members_alone(it: &BackendSubject) {
    let namespace = it.namespace("users");
    let (registry, one) = (namespace.members(), it.member("one"));
    it.enroll(&registry, &one, LONG).await;
    // Where nothing can be stored, the sweep finds the members alone.
    if it.backend.leases().is_some() {
        it.store(&namespace.key("1"), "Ada").await;
    }
    it.sweep(&Pattern::any().within(&namespace)).await;
    assert_eq!(listed(it, &registry).await, [one]);
}

pub async fn a_term_beyond_all_bounds_is_kept(it: &BackendSubject) {
    let (registry, one) = (registry(it, "users"), it.member("one"));
    it.enroll(&registry, &one, Duration::MAX).await;
    assert_eq!(listed(it, &registry).await, [one]);
}

fn registry(it: &BackendSubject, name: &str) -> Key {
    it.namespace(name).members()
}

async fn listed(it: &BackendSubject, registry: &Key) -> Vec<Member> {
    let roll = it.members().roll(registry).await.unwrap();
    sorted(roll.members.into_iter().map(|(member, _)| member))
}

fn sorted(members: impl IntoIterator<Item = Member>) -> Vec<Member> {
    let mut members: Vec<_> = members.into_iter().collect();
    members.sort_unstable();
    members
}
