//! Read-through: the cache knows its source. Callers ask for a key; one query serves however many ask, and many keys
//! are one query.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use cachalot::{Cache, Memory, ReadThrough, Source, Tier, Ttl};
use tokio::task::JoinSet;

#[derive(Clone, Debug, PartialEq)]
struct User {
    name: String,
    team: &'static str,
}

/// A table of users that counts its queries.
struct Users {
    rows: HashMap<u64, User>,
    queries: AtomicU32,
}

impl Users {
    fn new(rows: impl IntoIterator<Item = (u64, &'static str, &'static str)>) -> Self {
        let row = |(id, name, team): (u64, &str, _)| (id, User { name: name.to_owned(), team });
        Self { rows: rows.into_iter().map(row).collect(), queries: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Source<u64, User> for Users {
    type Error = io::Error;

    async fn load(&self, id: &u64) -> io::Result<Option<User>> {
        Ok(self.load_many(&[*id]).await?.pop().flatten())
    }

    /// `SELECT … WHERE id = ANY($1)`.
    async fn load_many(&self, ids: &[u64]) -> io::Result<Vec<Option<User>>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok(ids.iter().map(|id| self.rows.get(id).cloned()).collect())
    }

    async fn store(&self, _: &u64, _: &User) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    async fn delete(&self, _: &u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder("users")
        .memory(Memory::entries(10_000))
        .ttl(Ttl::minutes(5).jitter(0.10))
        .negative_ttl(Ttl::seconds(10))
        .build()?;
    let source = Users::new([(1, "Ada", "engines"), (2, "Grace", "compilers"), (3, "Edsger", "compilers")]);
    let users: ReadThrough<u64, User, Users> = ReadThrough::new(cache, source)
        .marked_by(|load, user: &User| load.tag(format!("team:{}", user.team)));
    let queries = || users.source().queries.load(Ordering::Relaxed);

    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let users = users.clone();
        callers.spawn(async move { users.get(&1).await });
    }
    while let Some(user) = callers.join_next().await {
        assert!(user??.is_some_and(|user| user.name == "Ada"));
    }
    println!("1,000 callers for one user: {} query", queries());
    assert_eq!(queries(), 1);

    let answers = users.get_many(&[1, 2, 3, 4]).await;
    let names: Vec<_> = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = names.iter().map(|user| user.as_ref().map(|user| user.name.as_str())).collect();
    println!("{names:?}: {} query more, for the three that were missing", queries() - 1);
    assert_eq!(queries(), 2);

    assert!(users.get(&4).await?.is_none());
    assert_eq!(queries(), 2, "that there is no user 4 is remembered for ten seconds");

    // What changes in the source the cache is to be told: here, all of a team.
    users.cache().remove_tag("team:compilers").await?;
    let tier = async |id: u64| users.get(&id).await.map(|user| user.map(|user| user.tier()));
    println!("the compilers' users change: Ada from {:?}, Grace from {:?}", tier(1).await?, tier(2).await?);
    assert_eq!((tier(1).await?, queries()), (Some(Tier::Memory), 3));
    Ok(())
}
