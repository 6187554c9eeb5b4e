//! Caches over a real bus that is harmed in the middle of load: connections killed, the server restarted, the stream
//! trimmed and deleted. What a process holds may be old until it hears of it or notices the gap, and no longer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachalot::{Cache, Event, Memory, RedisBusBuilder, Removal};
use cachalot_core::{Bus, Observer};
use cachalot_testkit::RedisServer;
use integration_tests::patient;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Users = Cache<u64, u64>;

const KEYS: usize = 8;
const HEARTBEAT: Duration = Duration::from_millis(100);
const AGES: Duration = Duration::from_secs(60);

/// A number for each key.
type Numbers = Arc<[AtomicU64; KEYS]>;

/// The source, and which of its versions were removed for certain.
#[derive(Clone, Default)]
struct Source {
    versions: Numbers,
    removed: Numbers,
}

/// A process that reads.
struct Reader {
    cache: Users,
    /// What had been removed when the last gap was noticed: less than this may not be read again.
    floors: Numbers,
    reads: AtomicU64,
}

/// Notes what was removed so far when a gap is noticed.
#[derive(Default)]
struct Floors {
    floors: Numbers,
    removed: Numbers,
}

impl Observer for Floors {
    fn on_event(&self, event: &Event<'_>) {
        if matches!(event, Event::Gap) {
            for (floor, removed) in self.floors.iter().zip(self.removed.iter()) {
                floor.store(removed.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
    }
}

struct Trouble {
    /// For values; nobody harms it.
    values: RedisServer,
    /// For messages.
    bus: RedisServer,
    source: Source,
}

impl Trouble {
    fn new() -> Self {
        Self { values: RedisServer::start(), bus: RedisServer::start(), source: Source::default() }
    }

    fn bus_settings(&self) -> RedisBusBuilder {
        patient(self.bus.url()).bus().check_every(Duration::from_millis(50))
    }

    fn reader(&self, bus: impl Bus) -> Arc<Reader> {
        let floors = Numbers::default();
        let observer = Floors { floors: floors.clone(), removed: self.source.removed.clone() };
        Arc::new(Reader { cache: self.cache(bus, observer), floors, reads: AtomicU64::new(0) })
    }

    fn cache(&self, bus: impl Bus, observer: Floors) -> Users {
        let cache = Cache::builder("users").memory(Memory::entries(100)).ttl(Duration::from_secs(600));
        let cache = cache.backend(patient(self.values.url()).connect_lazy().unwrap());
        cache.bus(bus).heartbeat(HEARTBEAT).observer(observer).build().unwrap()
    }

    /// Changes one key after the other, and removes it.
    fn write(&self, cache: Users) -> JoinHandle<()> {
        let source = self.source.clone();
        tokio::spawn(async move {
            for key in (0..KEYS).cycle() {
                let version = source.versions[key].fetch_add(1, Ordering::SeqCst) + 1;
                assert_eq!(cache.remove(&(key as u64)).await.unwrap(), Removal::Removed);
                source.removed[key].store(version, Ordering::SeqCst);
                sleep(Duration::from_millis(1)).await;
            }
        })
    }

    fn read(&self, reader: &Arc<Reader>) -> JoinHandle<()> {
        let (reader, source) = (reader.clone(), self.source.clone());
        tokio::spawn(async move {
            for key in (0..KEYS).cycle() {
                let least = reader.floors[key].load(Ordering::SeqCst);
                let read = reader.load(&source, key).await;
                assert!(
                    read >= least,
                    "{read} of {key}, after a gap that was noticed after {least} was removed"
                );
                reader.reads.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_micros(100)).await;
            }
        })
    }
}

impl Reader {
    async fn load(&self, source: &Source, key: usize) -> u64 {
        let versions = source.versions.clone();
        let load = move |_| async move { Ok(versions[key].load(Ordering::SeqCst)) };
        *self.cache.get_or_load(&(key as u64), load).await.unwrap()
    }

    /// Whether it reads what is there.
    async fn is_level(&self, source: &Source) -> bool {
        for key in 0..KEYS {
            if self.load(source, key).await != source.versions[key].load(Ordering::SeqCst) {
                return false;
            }
        }
        true
    }
}

/// A process that removes and two that read, each with an end of the bus of its own; `harms` are done one after the
/// other while they are at it.
async fn under_load<B: Bus>(trouble: Trouble, bus: impl Fn(&Trouble) -> B, harms: &[fn(&RedisServer)]) {
    let remover = trouble.cache(bus(&trouble), Floors::default());
    let readers = [trouble.reader(bus(&trouble)), trouble.reader(bus(&trouble))];
    let reading: Vec<_> = readers.iter().map(|reader| trouble.read(reader)).collect();
    let writing = trouble.write(remover.clone());
    for harm in harms.iter().chain(harms) {
        harm(&trouble.bus);
        let (versions, reads) =
            (&trouble.source.versions[KEYS - 1], readers.each_ref().map(|reader| &reader.reads));
        let until = versions.load(Ordering::SeqCst) + 10;
        let reads_until = reads.map(|reads| reads.load(Ordering::SeqCst) + 100);
        wait_until(async || {
            let is_read = |at: usize| reads[at].load(Ordering::SeqCst) >= reads_until[at];
            assert!(!reading.iter().any(JoinHandle::is_finished), "a reader has seen what it should not");
            versions.load(Ordering::SeqCst) >= until && is_read(0) && is_read(1)
        })
        .await;
    }
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    // The last one may have been changed and not removed.
    for key in 0..KEYS {
        remover.remove(&(key as u64)).await.unwrap();
    }
    for reader in &readers {
        wait_until(async || reader.is_level(&trouble.source).await).await;
        let stats = reader.cache.stats();
        assert!(stats.gaps > 0 && stats.heard > 0 && stats.memory_hits > 0, "{stats:?}");
    }
    for task in reading {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

async fn wait_until(is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, wait).await.expect("it never came");
}

/// One command, past all clients.
fn tell(server: &RedisServer, command: &str) {
    let mut connection = TcpStream::connect(server.addr()).unwrap();
    connection.set_read_timeout(Some(AGES)).unwrap();
    connection.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 64];
    let read = connection.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b":"), "{command}: {}", answer[..read].escape_ascii());
}

fn kill_subscribers(server: &RedisServer) {
    tell(server, "CLIENT KILL TYPE pubsub SKIPME yes");
}

fn kill_publishers(server: &RedisServer) {
    tell(server, "CLIENT KILL TYPE normal SKIPME yes");
}

fn trim(server: &RedisServer) {
    tell(server, "XTRIM cachalot:bus MAXLEN 0");
}

fn delete(server: &RedisServer) {
    tell(server, "DEL cachalot:bus");
}

/// Away for longer than a process may be silent, and back with nothing.
fn restart(server: &RedisServer) {
    server.restart();
}

#[tokio::test]
async fn no_read_is_stale_after_the_gap_is_noticed_on_pub_sub() {
    let harms: [fn(&RedisServer); 3] = [kill_subscribers, kill_publishers, restart];
    under_load(Trouble::new(), |trouble| trouble.bus_settings().pub_sub().unwrap(), &harms).await;
}

#[tokio::test]
async fn no_read_is_stale_after_the_gap_is_noticed_on_a_stream() {
    let harms: [fn(&RedisServer); 4] = [kill_publishers, trim, delete, restart];
    under_load(Trouble::new(), |trouble| trouble.bus_settings().stream().unwrap(), &harms).await;
}
