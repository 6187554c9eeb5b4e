//! Real buses under fire: connections killed, the server restarted, and no invalidation lost unnoticed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::{Bus, Clock, Entropy, Namespace, PublisherId, Subject};
use cachalot_invalidation::{Announcer, AnnouncerSettings, Deed, Hearing, HearingSettings, LocalBus, Next};
use cachalot_redis_backend::{Redis, RedisBusBuilder};
use cachalot_testkit::RedisServer;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

const HEARTBEAT: Duration = Duration::from_millis(100);
const AGES: Duration = Duration::from_secs(60);

/// What happened in which order, by one count.
#[derive(Default)]
struct Log {
    count: AtomicU64,
    announced: Mutex<Vec<(Subject, u64)>>,
    applied: Mutex<Vec<(Subject, u64)>>,
    last_gap: AtomicU64,
}

impl Log {
    fn now(&self) -> u64 {
        self.count.fetch_add(1, Ordering::SeqCst)
    }

    /// What was neither applied nor followed by a gap so far.
    fn missing(&self) -> Vec<Subject> {
        let (applied, gap) = (lock(&self.applied), self.last_gap.load(Ordering::SeqCst));
        let is_missing = |(subject, at): &&(Subject, u64)| {
            gap <= *at && !applied.iter().any(|(other, then)| other == subject && then > at)
        };
        lock(&self.announced).iter().filter(is_missing).map(|(subject, _)| subject.clone()).collect()
    }
}

struct Publisher {
    announcer: Mutex<Announcer>,
    announced: Notify,
    clock: Clock,
}

impl Publisher {
    fn start(bus: Arc<dyn Bus>) -> Arc<Self> {
        let (clock, entropy, settings) = (Clock::system(), Entropy::thread(), AnnouncerSettings::default());
        let own = PublisherId::draw(&entropy);
        let announcer = Announcer::new(own, users(), settings.heartbeat(HEARTBEAT), entropy, clock.now());
        let publisher = Arc::new(Self { announcer: Mutex::new(announcer), announced: Notify::new(), clock });
        tokio::spawn(publisher.clone().speak(bus));
        publisher
    }

    async fn speak(self: Arc<Self>, bus: Arc<dyn Bus>) {
        loop {
            let next = lock(&self.announcer).next(self.clock.now());
            match next {
                Next::Send(message) => match bus.publish(&message).await {
                    Ok(()) => lock(&self.announcer).sent(self.clock.now()),
                    Err(error) => lock(&self.announcer).failed(&error, self.clock.now()),
                },
                Next::Wait(at) => {
                    let _ = timeout(at.since(self.clock.now()), self.announced.notified()).await;
                }
                Next::Done => return,
            }
        }
    }
}

async fn listen(bus: Arc<dyn Bus>, log: Arc<Log>) {
    let (clock, own) = (Clock::system(), PublisherId::draw(&Entropy::thread()));
    let mut hearing = Hearing::new(own, users(), HearingSettings::default());
    let mut subscription = bus.subscribe().await.unwrap();
    loop {
        let look_in = hearing.next_look().map_or(AGES, |at| at.since(clock.now()));
        let heard = match timeout(look_in, subscription.next()).await {
            Ok(event) => hearing.on_event(event.unwrap(), clock.now()),
            Err(_) => hearing.on_time(clock.now()),
        };
        if heard.gap.is_some() {
            log.last_gap.store(log.now(), Ordering::SeqCst);
        }
        if let Deed::Apply(subjects) = heard.deed {
            let at = log.now();
            lock(&log.applied).extend(subjects.into_iter().map(|subject| (subject, at)));
        }
    }
}

fn users() -> Namespace {
    Namespace::new("users").unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two publishers and a listener, each with an end of the bus of its own; `harm` does its worst now and then.
async fn under_fire(bus: impl Fn() -> Arc<dyn Bus>, harm: impl Fn(u64)) {
    let log = Arc::new(Log::default());
    let listener = tokio::spawn(listen(bus(), log.clone()));
    let publishers = [Publisher::start(bus()), Publisher::start(bus())];
    for round in 0..30u64 {
        for n in 0..10 {
            let key = users().key(&(round * 10 + n));
            let subject = Subject::Key { key, pending: false };
            let publisher = &publishers[(n % 2) as usize];
            lock(&log.announced).push((subject.clone(), log.now()));
            lock(&publisher.announcer).announce(subject, false);
            publisher.announced.notify_one();
            sleep(Duration::from_millis(3)).await;
        }
        harm(round);
    }
    let all = async {
        while !log.missing().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = timeout(AGES, all).await;
    listener.abort();
    assert!(ended.is_ok(), "lost unnoticed: {:?}", log.missing());
    assert!(!lock(&log.applied).is_empty());
}

fn harm(server: &RedisServer, round: u64) {
    match round {
        15 => server.restart(),
        round if round % 3 == 0 => kill(server, "pubsub"),
        round if round % 3 == 1 => kill(server, "normal"),
        _ => {}
    }
}

/// Ends the connections of this kind.
fn kill(server: &RedisServer, kind: &str) {
    let mut connection = TcpStream::connect(server.addr()).unwrap();
    connection.write_all(format!("CLIENT KILL TYPE {kind} SKIPME yes\r\n").as_bytes()).unwrap();
    let mut answer = [0; 64];
    let read = connection.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b":"), "{}", answer[..read].escape_ascii());
}

fn settings(server: &RedisServer) -> RedisBusBuilder {
    let redis = Redis::builder(server.url()).deadline(Duration::from_secs(5));
    redis.bus().check_every(Duration::from_millis(50))
}

#[tokio::test]
async fn killed_connections_and_a_restart_lose_nothing_unnoticed_on_pub_sub() {
    let server = RedisServer::start();
    under_fire(|| Arc::new(settings(&server).pub_sub().unwrap()), |round| harm(&server, round)).await;
}

#[tokio::test]
async fn killed_connections_a_restart_and_trimming_lose_nothing_unnoticed_on_a_stream() {
    let server = RedisServer::start();
    let bus = || -> Arc<dyn Bus> { Arc::new(settings(&server).keep(5).stream().unwrap()) };
    under_fire(bus, |round| harm(&server, round)).await;
}

#[tokio::test]
async fn a_small_queue_loses_nothing_unnoticed_in_a_process() {
    let bus = Arc::new(LocalBus::with_queue(2));
    under_fire(|| bus.clone(), |_| ()).await;
}
