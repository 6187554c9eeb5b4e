//! The bounded map alone, without an async runtime: expiry per entry, and a fence against a late store.

use std::time::Duration;

use cachalot::{Memory, MemoryBuilder};

fn main() -> Result<(), cachalot::Error> {
    let sizes: MemoryBuilder<String, Vec<u8>> = Memory::weight_limit(1024);
    let files = sizes.weigher(|name, bytes| (name.len() + bytes.len()) as u64).build()?;

    files.insert("a".to_owned(), vec![0; 500]);
    files.insert_with_ttl("b".to_owned(), vec![0; 500], Duration::from_secs(60));
    assert!(files.weight() <= 1024);

    // An entry heavier than the whole bound is refused, and says so.
    assert!(!files.insert("too large".to_owned(), vec![0; 2000]));

    // The right to store is granted before the file is read, and revoked by the removal.
    let fence = files.begin("c");
    let read_before_the_change = vec![1, 2, 3];
    files.remove("c");
    let late = files.commit(fence, "c".to_owned(), read_before_the_change, None);
    println!("a store that comes too late is {late:?}; {} entries weigh {}", files.len(), files.weight());
    assert!(files.get("c").is_none());
    Ok(())
}
