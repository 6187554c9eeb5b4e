//! Dependencies over a real Redis and its bus.

use std::sync::Arc;
use std::time::Duration;

use cachalot::{Cache, Inserted, Load, Memory, Removal, Tier};
use cachalot_testkit::RedisServer;
use integration_tests::{connect, patient};
use tokio::time::{sleep, timeout};

type Pages = Cache<String, String>;

const AGES: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_millis(5);

async fn node(server: &RedisServer) -> Pages {
    let bus = Arc::new(patient(server.url()).bus().pub_sub().unwrap());
    let builder = Cache::builder("pages").memory(Memory::entries(1000)).dependencies();
    builder.backend(connect(server).await).bus(bus).build().unwrap()
}

/// A page of `user`, loaded until memory keeps it: until the subscription stands.
async fn load(cache: &Pages, page: &str, user: &str, declared: bool, text: &str) -> Tier {
    let (page, user) = (&page.to_owned(), user.to_owned());
    let work = async {
        loop {
            let (text, user) = (text.to_owned(), user.clone());
            let view = cache.with(|options| options);
            let view = if declared { view.depends_on(&user).unwrap() } else { view };
            let load = |load: Load<String>| async move {
                if !declared {
                    load.depends_on(&user);
                }
                Ok(text)
            };
            let tier = view.get_or_load(page, load).await.unwrap().tier();
            if cache.get_local(page).is_some() {
                return tier;
            }
            sleep(A_MOMENT).await;
        }
    };
    timeout(AGES, work).await.expect("it is never kept")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_what_depends_on_a_key_ends_with_it_in_every_process() {
    let server = RedisServer::start();
    let (here, there) = (node(&server).await, node(&server).await);
    // One key whose tag has its name, one whose tag has its hash.
    for user in ["user:7".to_owned(), "user:".repeat(100)] {
        for (declared, way) in [(true, "remove"), (false, "insert"), (true, "many"), (false, "expire")] {
            let (page, other) = (format!("page:{}", user.len()), "other".to_owned());
            load(&here, &page, &user, declared, "old").await;
            assert_ne!(load(&there, &page, &user, declared, "new").await, Tier::Loader, "{way}");
            load(&there, &other, &other, declared, "other").await;
            match way {
                "remove" => assert_eq!(here.remove(&user).await.unwrap(), Removal::Removed),
                "insert" => {
                    assert_eq!(here.insert(user.clone(), "Ada".into()).await.unwrap(), Inserted::Stored);
                }
                "many" => drop(here.remove_many(std::slice::from_ref(&user)).await.unwrap()),
                _ => assert_eq!(here.expire(&user).await.unwrap(), Removal::Removed),
            }
            assert!(here.get(&page).await.is_none(), "{way}");
            let told = async {
                while there.get_local(&page).is_some() {
                    sleep(A_MOMENT).await;
                }
            };
            timeout(AGES, told).await.expect("it was not told");
            assert!(there.get(&page).await.is_none(), "{way}");
            assert!(there.get(&other).await.is_some());
        }
    }
}
