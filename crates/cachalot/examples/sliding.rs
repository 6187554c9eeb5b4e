//! Sessions that last as long as somebody uses them, seen by two processes. Time is moved by hand.

use std::error::Error;
use std::time::Duration;

use cachalot::units::{hours, minutes};
use cachalot::{Cache, LoadFn, ManualClock, Memory, MemoryBackend, Sliding, Tier};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let time = ManualClock::new();
    let shared = MemoryBackend::with_limit(1 << 20, time.clock());
    let node = || {
        Cache::builder("sessions")
            .memory(Memory::entries(1_000))
            .backend(shared.clone())
            .clock(time.clock())
            .ttl(minutes(30)) // From the last read on.
            .max_age(hours(12)) // From the sign-in on, whatever is read.
            .build()
    };
    // What the database has of a session, when no cache has it.
    let source = LoadFn::new(|id: u64| async move { Ok::<_, std::io::Error>(Some(format!("session {id}"))) });
    let (one, two) = (Sliding::new(node()?, source.clone())?, Sliding::new(node()?, source)?);

    let started = time.now();
    one.get(&7).await?.ok_or("loaded")?;
    println!("t =   0 min  one loads it");

    // Whichever process reads it: it lives on in both. What they do in the background may run in between.
    for read in 1..=23 {
        time.advance(minutes(20));
        let node = if read % 2 == 0 { &one } else { &two };
        let found = node.get(&7).await?.ok_or("still there")?;
        assert_eq!((found.tier(), found.age()), (Tier::Backend, time.now().since(started)));
        rest().await;
    }
    println!("t = 460 min  read every 20 min by one or the other: never loaded again");

    for minute in 0..1_000 {
        time.advance(Duration::from_millis(1_200)); // A thousand reads within 20 minutes.
        let found = one.get(&7).await?.ok_or("still there")?;
        assert!(found.age() >= hours(7), "{minute}: not loaded again");
        rest().await;
    }
    println!("t = 480 min  {} reads by one have prolonged it {} times", 1_012, one.touched());
    assert!(one.touched() <= 20);

    time.advance(minutes(30));
    println!("t = 510 min  read by nobody for 30 min: {:?}", one.cache().get(&7).await.map(|it| it.tier()));
    assert!(one.cache().get(&7).await.is_none());

    for node in [one, two] {
        node.cache().shutdown(Duration::from_secs(1)).await?;
    }
    Ok(())
}

/// Lets background tasks run.
async fn rest() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
