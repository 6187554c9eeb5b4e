//! The contract of a bus, sentence by sentence; and what the tests of both buses share.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    Body, Bus, BusEvent, Entropy, ErrorKind, Key, Message, Namespace, PublisherId, Subject, Subscription,
};
use cachalot_redis_backend::{Redis, RedisBusBuilder};
use cachalot_testkit::{BusSubject, RedisServer, bus_suite};
use tokio::time::timeout;

use crate::support::{patient, raw};

/// More than anything may take, on a machine that is busy with other tests.
const AGES: Duration = Duration::from_secs(60);

async fn subject<B: Bus>(kind: &'static str, url: &str, make: fn(RedisBusBuilder) -> B) -> BusSubject {
    let server = Arc::new(RedisServer::start());
    let bus = || make(patient(format!("{}{url}", server.url())).bus());
    let killed = server.clone();
    BusSubject::new(bus()).and_other(bus()).breaking(move || kill(&killed, kind), || {}).keeping(server)
}

bus_suite!(pub_sub, || subject("pubsub", "", |bus| bus.pub_sub().unwrap()));

bus_suite!(pub_sub_by_resp2, || subject("pubsub", "/?protocol=resp2", |bus| bus.pub_sub().unwrap()));

bus_suite!(stream, || subject("normal", "", |bus| bus.stream().unwrap()));

bus_suite!(stream_by_resp2, || subject("normal", "/?protocol=resp2", |bus| bus.stream().unwrap()));

/// Ends the connections of this kind. At least one must have been there.
pub(crate) fn kill(server: &RedisServer, kind: &str) {
    let arguments = ["KILL", "TYPE", kind, "SKIPME", "yes"];
    let killed: i64 = redis::cmd("CLIENT").arg(&arguments).query(&mut raw(server)).unwrap();
    assert!(killed > 0, "there was none to kill");
}

/// Settings with which a silent connection is noticed soon.
pub(crate) fn watchful(server: &RedisServer) -> RedisBusBuilder {
    let redis = Redis::builder(server.url()).deadline(Duration::from_secs(5));
    redis.bus().check_every(Duration::from_millis(50))
}

pub(crate) fn message(sequence: u64) -> Message {
    let subjects = vec![Subject::Key { key: Key::new(format!("users:{sequence}")), pending: false }];
    Message {
        publisher: PublisherId::from_bytes([7; 16]),
        namespace: Namespace::new("users").unwrap(),
        body: Body::Invalidations { sequence, confirm: false, subjects },
    }
}

pub(crate) fn number(event: &BusEvent) -> u64 {
    match event {
        BusEvent::Message(Message { body: Body::Invalidations { sequence, .. }, .. }) => *sequence,
        other => panic!("a message was to come: {other:?}"),
    }
}

pub(crate) async fn next(subscription: &mut Box<dyn Subscription>) -> BusEvent {
    timeout(AGES, subscription.next()).await.expect("nothing came").unwrap()
}

/// Reads on to the first event of which `wanted` is true, and gives what came before it too.
pub(crate) async fn read_to(
    subscription: &mut Box<dyn Subscription>,
    wanted: impl Fn(&BusEvent) -> bool,
) -> Vec<BusEvent> {
    let mut events = Vec::new();
    loop {
        events.push(next(subscription).await);
        if events.last().is_some_and(&wanted) {
            return events;
        }
    }
}

/// Publishes; again, as long as the server is away.
pub(crate) async fn publish(bus: &impl Bus, sequence: u64) {
    let work = async {
        while let Err(error) = bus.publish(&message(sequence)).await {
            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, work).await.expect("it cannot be published");
}

#[test]
fn settings_out_of_range_are_refused() {
    let bus = || Redis::builder("redis://localhost").bus();
    let wrong = [
        bus().queue(1),
        bus().keep(0),
        bus().check_every(Duration::ZERO),
        bus().channel(""),
        Redis::builder("rediss://localhost").bus(),
    ];
    for settings in wrong {
        let text = format!("{settings:?}");
        assert_eq!(settings.clone().pub_sub().unwrap_err().kind(), ErrorKind::Config, "{text}");
        assert_eq!(settings.stream().unwrap_err().kind(), ErrorKind::Config, "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_of_who_publishes_and_a_wait_of_who_listens() {
    let redis = || Redis::builder("redis://user:hunter2@127.0.0.1:1");
    let (pub_sub, stream) = (redis().bus().pub_sub().unwrap(), redis().bus().stream().unwrap());
    let buses: [&dyn Bus; 2] = [&pub_sub, &stream];
    for bus in buses {
        let error = bus.publish(&message(1)).await.unwrap_err();
        let text = format!("{error} {error:?} {bus:?} {:?}", bus.info());
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
        assert!(!text.contains("hunter2") && text.contains("127.0.0.1:1"), "{text}");
        let mut subscription = bus.subscribe().await.unwrap();
        assert!(timeout(Duration::from_millis(100), subscription.next()).await.is_err());
    }
}

#[tokio::test]
async fn prefixes_and_names_keep_buses_apart_and_none_breaks_a_bus() {
    let server = RedisServer::start();
    let named = |prefix: &str, name: &str| patient(server.url()).key_prefix(prefix).bus().channel(name);
    let settings = [named("", "x"), named("shop:", "x"), named("", "y")];
    let mut subscriptions = Vec::new();
    for bus in &settings {
        for bus in [
            Box::new(bus.clone().pub_sub().unwrap()) as Box<dyn Bus>,
            Box::new(bus.clone().stream().unwrap()),
        ] {
            let mut subscription = bus.subscribe().await.unwrap();
            assert_eq!(next(&mut subscription).await, BusEvent::Confirmed);
            subscriptions.push((bus, subscription));
        }
    }
    for (sequence, (bus, _)) in (1..).zip(&subscriptions) {
        bus.publish(&message(sequence)).await.unwrap();
    }
    for (sequence, (_, subscription)) in (1..).zip(&mut subscriptions) {
        assert_eq!(number(&next(subscription).await), sequence);
    }
    // Drawn only so that ids differ from process to process.
    assert_ne!(PublisherId::draw(&Entropy::thread()), PublisherId::draw(&Entropy::thread()));
}
