//! Orders, the bestsellers that they make, and callers who order too much.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cachalot_testkit::RedisServer;
use serde_json::json;
use storefront::catalog::{Catalog, Shared};
use storefront::client::Client;
use storefront::ordering::{self, place, wait_of};
use storefront::pages::Pages;
use storefront::service;
use storefront::shop::seed::{self, Size};
use storefront::shop::{CategoryId, Database, Listing, ProductId, ProductPage, Sale, UserId, UserPage};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

const MINUTE: Duration = Duration::from_secs(60);

fn database() -> (TempDir, Database) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    seed::prepare(&path, Size::SMALL, |_| {}).unwrap();
    let database = Database::open(&path).unwrap();
    (directory, database)
}

async fn serve(pages: Pages) -> Client {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(service::serve(listener, pages, pending()));
    Client::connect(address).await.unwrap()
}

async fn service(database: &Database, redis: &RedisServer, orders: u32) -> Arc<Client> {
    let shared = Shared::connect(&redis.url()).await.unwrap().order_limit(orders, MINUTE).unwrap();
    let catalog = Catalog::new(database.clone(), Some(shared)).unwrap();
    while catalog.stats().iter().any(|cache| cache.gaps == 0) {
        tokio::task::yield_now().await;
    }
    Arc::new(serve(Pages::Cached(Arc::new(catalog))).await)
}

async fn listing(client: &Client, category: u32) -> Listing {
    client.get(&format!("/categories/{category}")).await.unwrap().json().unwrap()
}

fn tell(redis: &RedisServer, command: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(redis.addr()).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Each product, its category, and the user, as the next reads show them.
async fn an_order_is_what_the_next_reads_show(client: &Client, database: &Database) {
    let page = async |id: ProductId| -> ProductPage {
        client.get(&format!("/products/{id}")).await.unwrap().json().unwrap()
    };
    for (id, pieces) in [(3_u32, 2), (250, 1_000), (250, 1)] {
        let id = ProductId(id);
        let before = page(id).await;
        listing(client, before.category.0).await;
        client.get("/users/1").await.unwrap();
        let sale: Sale = place(client, id, pieces).await.unwrap().json().unwrap();
        assert_eq!(sale.units_sold, before.units_sold + u64::from(pieces));
        assert_eq!(page(id).await.units_sold, sale.units_sold);
        let shown = listing(client, before.category.0).await;
        assert_eq!(Some(shown), database.listing(before.category).await.unwrap());
        let user: UserPage = client.get("/users/1").await.unwrap().json().unwrap();
        assert_eq!(Some(user), database.user(UserId(1)).await.unwrap());
    }
}

#[tokio::test]
async fn orders_are_shown_without_cache_with_it_and_with_a_leaderboard() {
    let (_directory, database) = database();
    an_order_is_what_the_next_reads_show(&serve(Pages::Direct(database.clone())).await, &database).await;
    let catalog = Catalog::new(database.clone(), None).unwrap();
    an_order_is_what_the_next_reads_show(&serve(Pages::Cached(Arc::new(catalog))).await, &database).await;
    let redis = RedisServer::start();
    let client = service(&database, &redis, 1_000).await;
    an_order_is_what_the_next_reads_show(&client, &database).await;
}

#[tokio::test]
async fn the_leaderboard_lists_every_category_as_the_database_does_ties_included() {
    let (_directory, database) = database();
    let redis = RedisServer::start();
    let client = service(&database, &redis, 1_000).await;
    for round in 0..2 {
        for category in 1..=8 {
            let expected = database.listing(CategoryId(category)).await.unwrap().unwrap();
            // Filled by the first round; read from in the second, since the page is not cached any more.
            assert_eq!(listing(&client, category).await, expected, "category {category}, round {round}");
            client.put(&format!("/categories/{category}/prices"), &json!({ "by_cents": 1 })).await.unwrap();
        }
    }
    let (_, sold) = database.listing_and_sales(CategoryId(3)).await.unwrap().unwrap();
    assert!(tell(&redis, "ZCARD sold:3").starts_with(&format!(":{}\r", sold.len())));
    assert!(!tell(&redis, "PTTL sold:3").starts_with(":-"), "it ends");
}

#[tokio::test]
async fn a_page_over_the_leaderboard_asks_the_database_for_its_lines_alone() {
    let (_directory, database) = database();
    let redis = RedisServer::start();
    let client = service(&database, &redis, 1_000).await;
    let best = listing(&client, 3).await.bestsellers[0].id;
    let reads = database.query_count().reads;
    // Somebody who is listed nowhere else shows who was asked.
    tell(&redis, "DEL sold:3");
    tell(&redis, &format!("ZADD sold:3 1 {:010}", u32::MAX - best.0));
    client.put(&format!("/products/{best}/price"), &json!({ "price_cents": 5 })).await.unwrap();
    let shown = listing(&client, 3).await;
    assert_eq!(shown.bestsellers.iter().map(|line| line.id).collect::<Vec<_>>(), [best]);
    assert_eq!(shown.bestsellers[0].price_cents, 5);
    assert_eq!(database.query_count().reads, reads + 1);
}

#[tokio::test]
async fn two_services_agree_on_the_bestsellers_while_both_take_orders() {
    let (_directory, database) = database();
    let redis = RedisServer::start();
    let nodes = [service(&database, &redis, 100_000).await, service(&database, &redis, 100_000).await];
    let last: Vec<ProductId> =
        listing(&nodes[0], 3).await.bestsellers.iter().rev().map(|line| line.id).collect();
    let callers: Vec<_> = (0..8_usize)
        .map(|caller| {
            let (node, products) = (Arc::clone(&nodes[caller % 2]), last.clone());
            tokio::spawn(async move {
                for order in 0..10 {
                    let product = products[(caller + order) % products.len()];
                    place(&node, product, (caller + order) as u32 + 1).await.unwrap().json::<Sale>().unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let expected = database.listing(CategoryId(3)).await.unwrap().unwrap();
    for node in &nodes {
        while listing(node, 3).await != expected {
            tokio::task::yield_now().await;
        }
    }
    // What the leaderboard has in the end is what the database has, whoever came late.
    for line in &expected.bestsellers {
        let score = tell(&redis, &format!("ZSCORE sold:3 {:010}", u32::MAX - line.id.0));
        assert!(score.contains(&format!("\n{}\r", line.units_sold)), "{score:?} {line:?}");
    }
}

#[tokio::test]
async fn a_product_is_ordered_to_the_top_and_who_orders_on_is_told_to_wait() {
    let (_directory, database) = database();
    let redis = RedisServer::start();
    let nodes = [service(&database, &redis, 60).await, service(&database, &redis, 60).await];
    let shown = ordering::order(&nodes).await.unwrap();
    assert_eq!((shown.place_before, shown.admitted), (20, 60 - ordering::ORDERS));
    assert!((1..=60).contains(&shown.retry_after) && shown.elsewhere.is_some(), "{shown:?}");
}

/// A request from another address of this machine.
async fn order_from(source: &str, service: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(service).await.unwrap();
    let body = r#"{"user":1,"pieces":1}"#;
    let head = format!(
        "POST /products/1/orders HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn each_caller_has_a_limit_of_their_own_whichever_service_they_ask() {
    let (_directory, database) = database();
    let redis = RedisServer::start();
    let nodes = [service(&database, &redis, 3).await, service(&database, &redis, 3).await];
    let mut waits = Vec::new();
    for at in 0..6 {
        waits.push(wait_of(&place(&nodes[at % 2], ProductId(1), 1).await.unwrap()).unwrap());
    }
    assert_eq!(waits[..3], [None; 3]);
    assert!(waits[3..].iter().all(|wait| wait.is_some_and(|wait| (1..=60).contains(&wait))), "{waits:?}");
    let other = order_from("127.0.0.2", nodes[0].address()).await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    let same = order_from("127.0.0.1", nodes[0].address()).await;
    assert!(same.starts_with("HTTP/1.1 429") && same.contains("retry-after: "), "{same}");
    // To sign in counts too; to read does not.
    let signed_in = nodes[0].post("/users/9/sessions").await.unwrap();
    assert!(wait_of(&signed_in).unwrap().is_some());
    assert!(nodes[0].get("/products/1").await.unwrap().status.is_success());
    let sold = database.product(ProductId(1)).await.unwrap().unwrap();
    let page: ProductPage = nodes[0].get("/products/1").await.unwrap().json().unwrap();
    assert_eq!(page, sold, "what is denied is not ordered");
}

#[tokio::test]
async fn without_redis_orders_are_taken_and_listed_too() {
    let (_directory, database) = database();
    let redis = RedisServer::start();
    let client = service(&database, &redis, 1).await;
    listing(&client, 3).await;
    redis.kill();
    an_order_is_what_the_next_reads_show(&client, &database).await;
}

#[tokio::test]
async fn orders_of_nothing_are_refused() {
    let (_directory, database) = database();
    let client = serve(Pages::Direct(database.clone())).await;
    assert_eq!(place(&client, ProductId(401), 1).await.unwrap().status.as_u16(), 404);
    assert_eq!(place(&client, ProductId(1), 0).await.unwrap().status.as_u16(), 422);
    let nobody = json!({ "user": 101, "pieces": 1 });
    let answer = client.post_json("/products/1/orders", &nobody).await.unwrap();
    assert_eq!(answer.status.as_u16(), 404);
}
