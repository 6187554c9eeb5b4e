//! A grant is withdrawn, and the call returns when no process grants it any more: the one that hangs included.
//!
//! The processes are two caches here, each with a thread of its own; no server is needed. Over Redis the shared tier
//! is `Redis::connect(url)` and the bus `Redis::builder(url).bus().pub_sub()`, and nothing else is different.
//!
//! ```console
//! $ cargo run -p cachalot --example confirmed
//! withdrawn everywhere in 0.1 ms: billing grants nothing
//! billing hangs: not confirmed yet, no answer from billing (0a1b2c3d)
//! confirmed after 791 ms, since billing's registration is over: it grants nothing
//! ```

use std::error::Error;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cachalot::{Cache, Confirmation, LocalBus, Memory, MemoryBackend, Result};
use tokio::runtime::Builder;
use tokio::time::sleep;

type Grants = Cache<u64, String>;

/// Who does not answer for so long serves nothing from its memory any more.
const TERM: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

fn open(name: &str, shared: &MemoryBackend, bus: &LocalBus) -> Result<Grants> {
    let grants = Cache::builder("grants").memory(Memory::entries(1_000));
    grants.backend(shared.clone()).bus(bus.clone()).membership(TERM).member_name(name).build()
}

/// Has `grants` keep the grant of user 7 in memory, as soon as others know of it.
async fn keep(grants: &Grants) -> std::result::Result<(), Box<dyn Error>> {
    while grants.get_local(&7).is_none() {
        grants.get_or_load(&7, |_| async { Ok("may write".to_owned()) }).await?;
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let (shared, bus) = (MemoryBackend::new(), LocalBus::new());
    let admin = open("admin", &shared, &bus)?;

    // Another process, which will hang as a whole.
    let (give, billing) = channel();
    let (hang, hung) = tokio::sync::oneshot::channel::<()>();
    let process = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            give.send(open("billing", &shared, &bus)).ok();
            hung.await.ok();
            thread::sleep(TERM * 2);
        });
        Ok::<_, std::io::Error>(())
    });
    let billing = billing.recv()??;

    // The first confirmation of a new fleet takes a term: the shared tier might have forgotten somebody.
    assert!(admin.remove(&7).confirmed(PATIENCE).await?.is_confirmed());

    keep(&billing).await?;
    let began = Instant::now();
    assert!(admin.remove(&7).confirmed(PATIENCE).await?.is_confirmed());
    assert!(billing.get_local(&7).is_none());
    println!("withdrawn everywhere in {:.1?}: billing grants nothing", began.elapsed());

    keep(&billing).await?;
    hang.send(()).ok();
    sleep(Duration::from_millis(20)).await;
    let began = Instant::now();
    if let Confirmation::Unconfirmed { members, .. } = admin.remove(&7).confirmed(TERM / 20).await? {
        println!("billing hangs: not confirmed yet, no answer from {}", members[0]);
    }
    assert!(admin.remove(&7).confirmed(PATIENCE).await?.is_confirmed());
    assert!(billing.get_local(&7).is_none());
    println!(
        "confirmed after {:.0?}, since billing's registration is over: it grants nothing",
        began.elapsed()
    );
    process.join().map_err(|_| "billing has failed")??;
    Ok(())
}
