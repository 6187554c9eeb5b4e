//! Keys of a shared tier: stable, injective bytes; an own key in two lines; a UUID by feature.

use cachalot::{Cache, CacheKey, Memory, MemoryBackend};
use uuid::Uuid;

#[derive(Clone, PartialEq, Eq, Hash)]
struct SessionId(Uuid);

impl CacheKey for SessionId {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
    }

    // What other processes say of a key on a bus is found by this.
    fn read_key(bytes: &[u8]) -> Option<Self> {
        Uuid::read_key(bytes).map(Self)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions: Cache<SessionId, String> =
        Cache::builder("sessions").memory(Memory::entries(100)).backend(MemoryBackend::new()).build()?;
    let id = SessionId(Uuid::from_u128(0xcafe));
    sessions.insert(id.clone(), "ada".to_owned()).await?;
    assert_eq!(*sessions.get(&id).await.ok_or("it was stored")?, "ada");

    println!("{}", String::from_utf8(id.to_key_bytes())?);
    assert!(SessionId::read_key(&id.to_key_bytes()) == Some(id));
    println!("{}", String::from_utf8(("orders", 7u64, "a:b").to_key_bytes())?);
    assert_ne!(("a", "bc").to_key_bytes(), ("ab", "c").to_key_bytes());
    Ok(())
}
