//! A fleet in simulated weather keeps the promise, and a fleet that breaks the protocol is found out.
//!
//! A failing seed prints itself, what was read against which promise, and the smallest plan that still shows
//! it; `CACHALOT_SEED=17 cargo test -p integration-tests over_the_model` lives through that one alone, and
//! `CACHALOT_SEEDS=1000000` through so many.

use std::sync::Arc;

use cachalot::{Clock, Entry, Memory, MemoryBackend};
use integration_tests::{Plan, Report, Server, Sweep, live, sweep};

type Engine = Memory<u64, Arc<Entry<String>>>;

fn model(clock: Clock) -> Server {
    Server::model(clock, |model| model)
}

fn memory(clock: Clock) -> Server {
    Server::lasting(MemoryBackend::with_limit(1 << 20, clock))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

/// Lives through the worlds of `seeds`, or the one that was asked for.
fn holds(test: &str, seeds: u64, server: fn(Clock) -> Server) -> Sweep {
    let seeds = match (number("CACHALOT_SEED"), number("CACHALOT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, more) => 0..more.unwrap_or(seeds),
    };
    let live = |plan: &Plan, is_traced| live::<Engine>(plan, is_traced, server);
    let swept = sweep(seeds, live);
    swept.assert_unbroken(test, live);
    swept.assert_lively();
    swept
}

#[test]
fn no_weather_brings_an_old_value_back_over_the_model() {
    holds("over_the_model", 18_000, model);
}

#[test]
fn no_weather_brings_an_old_value_back_over_a_shared_memory() {
    holds("over_a_shared_memory", 2_000, memory);
}

#[test]
fn no_weather_brings_an_old_value_back_over_a_sharded_tier() {
    let swept = holds("over_a_sharded_tier", 2_000, Server::sharded);
    assert!(swept.worlds < 100 || swept.turns > swept.worlds, "shards are not ejected: {swept:?}");
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    for server in [model, Server::sharded] {
        let world = || live::<Engine>(&Plan::draw(7), true, server);
        let first: Report = world();
        assert!(first.trace.lines().count() > 50, "{}", first.trace);
        assert_eq!(first, world());
    }
}

/// The sharded worlds find out what only several servers can show.
#[cfg(cachalot_mutants)]
#[test]
fn who_takes_a_part_of_the_owners_for_the_whole_is_found_out_by_sharded_worlds() {
    use cachalot_core::mutants::{Mutant, under};
    for mutant in [Mutant::TakesAPartForTheWhole, Mutant::RemovesFromOneOwner] {
        let live =
            |plan: &Plan, is_traced| under(Some(mutant), || live::<Engine>(plan, is_traced, Server::sharded));
        let found = (0..20).flat_map(|portion| sweep(100 * portion..100 * (portion + 1), live).broken).next();
        println!("{mutant:?}: found out by the sharded world of seed {found:?} first");
        assert!(found.is_some(), "{mutant:?}");
    }
}
