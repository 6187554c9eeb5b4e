//! Users in a SQLite file, through sqlx: read through, then written through.

use cachalot::{Cache, Inserted, Memory, ReadThrough, Tier, Ttl, WriteThrough};
use sqlx_source::{User, Users};

fn user(name: &str) -> User {
    User { name: name.to_owned(), email: format!("{}@example.com", name.to_lowercase()) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("users.db");
    let table = Users::open(&file).await?;
    let cache = Cache::builder("users").memory(Memory::entries(1_000)).ttl(Ttl::minutes(5)).build()?;
    let reads: ReadThrough<i64, User, Users> = ReadThrough::new(cache, table.clone());
    let users: WriteThrough<i64, User, Users> = reads.clone().into();

    assert_eq!(users.put(1, user("Ada")).await?, Inserted::Stored);
    users.put_many([(2, user("Grace")), (3, user("Edsger"))]).await?;
    println!("three users, two transactions");

    let ada = reads.get(&1).await?.ok_or("no user 1")?;
    println!("{} from {:?}", ada.name, ada.tier());
    assert_eq!(ada.tier(), Tier::Memory);

    reads.cache().clear().await?;
    let answers = reads.get_many(&[1, 2, 3, 4]).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = answers.iter().map(|user| user.as_ref().map(|user| user.name.as_str())).collect();
    println!("{names:?} by one query");
    assert_eq!(names, [Some("Ada"), Some("Grace"), Some("Edsger"), None]);

    users.delete_many(&[2, 3]).await?;
    table.close().await;

    // sqlx's own error comes back whole.
    let refused = users.put(1, user("Alan")).await.err().ok_or("the pool is closed")?;
    println!("{refused}");

    let again = Users::open(&file).await?;
    let reads = ReadThrough::new(Cache::builder("users").memory(Memory::entries(1_000)).build()?, again);
    assert_eq!(reads.get(&1).await?.map(|user| user.name.clone()), Some("Ada".to_owned()));
    assert!(reads.get(&2).await?.is_none());
    println!("opened again: Ada is there, Grace is not");
    Ok(())
}
