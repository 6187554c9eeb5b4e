//! Real processes over one Redis: whose load it is, whoever dies, sleeps or forgets.

mod fleet;
mod members;

use std::time::Duration;

use cachalot_testkit::RedisServer;

use fleet::{Process, fleet, hear_all, loaders, tell_all};

const PROCESSES: usize = 8;
/// Longer than anything here can take on a busy machine.
const AGES: Duration = Duration::from_secs(60);
/// The lease of whoever is about to lose it.
const SHORT: Duration = Duration::from_secs(1);

/// A process with a lease of this term that loads until it is told to finish, and the others, whose leases
/// last.
fn loader_and_others(server: &RedisServer, term: Duration) -> (Process, Vec<Process>) {
    let mut loader = fleet(server, 1, term).remove(0);
    let others = fleet(server, PROCESSES - 1, AGES);
    loader.tell("go");
    loader.hear("loading");
    loader.hear("waiting");
    (loader, others)
}

#[test]
fn eight_processes_with_a_thousand_callers_each_load_a_cold_key_once() {
    let server = RedisServer::start();
    let mut fleet = fleet(&server, PROCESSES, AGES);
    tell_all(&mut fleet, "go");
    hear_all(&mut fleet, "waiting");
    tell_all(&mut fleet, "finish");
    let served: Vec<_> = fleet.iter_mut().map(Process::serves).collect();
    let loaders = loaders(&fleet);
    assert_eq!(loaders.len(), 1);
    assert_eq!(served, [loaders[0]; PROCESSES]);
}

#[test]
fn a_process_killed_in_its_load_costs_one_more_load_after_its_lease() {
    let server = RedisServer::start();
    let (mut loader, mut others) = loader_and_others(&server, SHORT);
    tell_all(&mut others, "go");
    hear_all(&mut others, "waiting");
    loader.kill();
    tell_all(&mut others, "finish");
    let served: Vec<_> = others.iter_mut().map(Process::serves).collect();
    let loaders = loaders(&others);
    assert_eq!(loaders.len(), 1);
    assert_eq!(served, [loaders[0]; PROCESSES - 1]);
}

#[test]
fn a_process_that_slept_through_its_lease_is_refused_and_the_others_value_stays() {
    let server = RedisServer::start();
    let (mut loader, mut others) = loader_and_others(&server, SHORT);
    loader.stop();
    tell_all(&mut others, "go");
    tell_all(&mut others, "finish");
    let served: Vec<_> = others.iter_mut().map(Process::serves).collect();
    let filler = served[0];
    assert_eq!(loaders(&others), [filler]);
    assert_eq!(served, [filler; PROCESSES - 1]);

    loader.tell("finish");
    loader.go_on();
    loader.hear("refused");
    loader.serves();
    assert_eq!((loader.count("loading"), loader.count("refused")), (1, 1));
    // From its own memory, from the others', and from the server as a newcomer sees it.
    assert_eq!(loader.reads(), filler);
    assert!(others.iter_mut().all(|process| process.reads() == filler));
    let mut newcomer = fleet(&server, 1, AGES).remove(0);
    newcomer.tell("go");
    assert_eq!(newcomer.serves(), filler);
    assert_eq!(newcomer.count("loading"), 0);
}

#[test]
fn a_server_restarted_during_the_load_costs_each_process_one_load_at_most_and_no_caller_an_error() {
    let server = RedisServer::start();
    let (loader, mut fleet) = loader_and_others(&server, AGES);
    tell_all(&mut fleet, "go");
    hear_all(&mut fleet, "waiting");
    fleet.push(loader);
    server.restart();
    tell_all(&mut fleet, "finish");
    for process in &mut fleet {
        process.serves();
        assert!(process.count("loading") <= 1);
    }
}
