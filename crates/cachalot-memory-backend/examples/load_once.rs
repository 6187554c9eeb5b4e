//! Eight threads ask for one page at the same time: it is rendered once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cachalot_core::Error;
use cachalot_memory_backend::Memory;

fn main() -> Result<(), Error> {
    let pages: Memory<String, String> = Memory::entries(1_000).build()?;
    let rendered = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let page = pages.get_or_insert_with_ttl("/start", || {
                    rendered.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                    ("<h1>Welcome</h1>".to_owned(), Duration::from_secs(60))
                });
                assert_eq!(page.unwrap_or_default(), "<h1>Welcome</h1>");
            });
        }
    });
    println!("8 threads, rendered {} time(s)", rendered.into_inner());

    // A closure may fail; the failure is its caller's alone, and nothing is stored.
    let failed = pages.get_or_try_insert_with("/missing", || Err("no such page"));
    println!("{}", failed.unwrap_or_else(|error| error.to_string()));

    // Asking for the key that is being made would wait for itself.
    let page = pages.get_or_insert_with("/loop", || {
        let again = pages.get_or_insert_with("/loop", String::new);
        again.unwrap_or_else(|error| error.to_string())
    })?;
    println!("{page}");
    Ok(())
}
