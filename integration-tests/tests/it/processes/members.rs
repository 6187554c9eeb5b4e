//! A removal that real processes confirm, over real buses: one that lives, one that is stopped, one that is killed.

use std::time::{Duration, Instant};

use cachalot::{Cache, Confirmation, Memory};
use cachalot_testkit::RedisServer;
use integration_tests::patient;

use super::fleet::Process;

const TERM: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);

async fn here(server: &RedisServer, bus: &str) -> Cache<u64, String> {
    let url = server.url();
    let builder = Cache::builder("users")
        .memory(Memory::entries(100))
        .backend(patient(&url).connect().await.unwrap())
        .membership(TERM);
    let builder = match bus {
        "stream" => builder.bus(patient(&url).bus().stream().unwrap()),
        _ => builder.bus(patient(&url).bus().pub_sub().unwrap()),
    };
    builder.build().unwrap()
}

fn there(server: &RedisServer, bus: &str) -> Process {
    let term = TERM.as_millis().to_string();
    let args = [server.url(), bus.to_owned(), term, "there".to_owned()];
    let mut process = Process::of(env!("CARGO_BIN_EXE_member-node"), &args);
    process.hear("ready");
    process
}

fn steer(process: &mut Process, line: &str, answer: &str) {
    process.tell(line);
    process.hear(answer);
}

async fn processes_confirm(bus: &str) {
    let server = RedisServer::start();
    let (cache, mut there) = (here(&server, bus).await, there(&server, bus));
    steer(&mut there, "load 1", "holds 1");
    assert_eq!(cache.remove(&1).confirmed(LONG).await.unwrap(), Confirmation::Confirmed);
    steer(&mut there, "look 1", "nothing 1");

    steer(&mut there, "load 2", "holds 2");
    there.stop();
    let soon = cache.remove(&1).confirmed(Duration::from_millis(50)).await.unwrap();
    let Confirmation::Unconfirmed { members, may_lack_some: false } = soon else { panic!("{soon:?}") };
    assert_eq!(members.iter().map(|member| member.name()).collect::<Vec<_>>(), ["there"]);
    let begins = Instant::now();
    assert_eq!(cache.remove(&1).confirmed(LONG).await.unwrap(), Confirmation::Confirmed);
    // It may have been stopped at any time of its term; the rest is for a machine that is busy.
    assert!(begins.elapsed() < TERM * 10, "{:?}", begins.elapsed());
    there.tell("look 2");
    there.go_on();
    there.hear("nothing 2");

    steer(&mut there, "load 3", "holds 3");
    there.kill();
    assert_eq!(cache.remove(&1).confirmed(LONG).await.unwrap(), Confirmation::Confirmed);
}

#[tokio::test]
async fn processes_confirm_over_pub_sub_and_a_stopped_one_serves_nothing_old_when_it_wakes() {
    processes_confirm("pub-sub").await;
}

#[tokio::test]
async fn processes_confirm_over_a_stream_and_a_stopped_one_serves_nothing_old_when_it_wakes() {
    processes_confirm("stream").await;
}
