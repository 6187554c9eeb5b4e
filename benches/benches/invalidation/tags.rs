//! Removing a tag, whatever number of keys has it.

use std::time::Instant;

use benches::{Figure, Sheet, rounds, runtime};
use cachalot_testkit::RedisServer;

use crate::Scale;
use crate::fixture::{fill, tags, without_memory};
use crate::proxy::Proxy;

const CASE: &str = "remove_tag";
const TIME: Figure = Figure::new("time", "us");
const TRIPS: Figure = Figure::new("round trips", "counted").at_most(2.0);
/// How many removals a round times.
const REMOVALS: u32 = 50;

/// One tag and what has it.
struct Members {
    name: String,
    tag: String,
    /// One of them.
    key: String,
}

/// Each key has as many tags as there are sizes that count it in.
pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    let (server, runtime) = (RedisServer::start(), runtime());
    let cache = without_memory(&runtime, &server.url(), |builder| builder);
    let tag = |members: usize| format!("among {members}");
    let mut from = 0;
    eprintln!("  storing {} keys", scale.keys);
    for &members in &scale.members {
        let names = scale.members.iter().filter(|of| **of >= members).map(|of| tag(*of));
        let keys = (from..members).map(|n| format!("key:{n}"));
        runtime.block_on(fill(&cache, keys, &tags(names)));
        from = members;
    }
    let mut contenders: Vec<Members> = scale
        .members
        .iter()
        .map(|&of| Members { name: format!("{of} members"), tag: tag(of), key: format!("key:{}", of - 1) })
        .collect();

    // The largest last: the smaller sets are its parts.
    let proxy = Proxy::before(server.addr());
    let counted = without_memory(&runtime, &proxy.url(), |builder| builder);
    // Connects.
    assert!(runtime.block_on(counted.remove_tag("another")).is_ok());
    for one in &contenders {
        runtime.block_on(async {
            assert!(cache.get(&one.key).await.is_some(), "a member that is not there");
            let before = proxy.trips();
            assert!(counted.remove_tag(&one.tag).await.is_ok());
            sheet.add(CASE, &one.name, TRIPS, (proxy.trips() - before) as f64);
            assert!(cache.get(&one.key).await.is_none(), "a member that outlived its tag");
        });
    }
    rounds(scale.rounds, CASE, &mut contenders, |one| {
        let begin = Instant::now();
        for _ in 0..REMOVALS {
            assert!(runtime.block_on(cache.remove_tag(&one.tag)).is_ok());
        }
        let each = begin.elapsed().as_secs_f64() * 1e6 / f64::from(REMOVALS);
        sheet.add(CASE, &one.name, TIME, each);
    });
    let least = format!("{} members", scale.members[0]);
    sheet.compare(CASE, TIME.metric, &least, Figure::new("time / fewest members", "ratio"));
}
