//! The service over HTTP, with and without the cache: what a caller may rely on.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::json;
use storefront::catalog::{Catalog, Shared};
use storefront::client::Client;
use storefront::load;
use storefront::pages::{Pages, Stats};
use storefront::repricing;
use storefront::service;
use storefront::shop::database::QueryCount;
use storefront::shop::seed::{self, Size};
use storefront::shop::{
    CategoryPrices, Database, Listing, Price, ProductId, ProductPage, Session, Stock, UserPage, Views,
};
use storefront::stocktaking;
use storefront::viewing;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A service of this test's own; ends with it.
struct Shop {
    client: Client,
    database: Database,
    _directory: TempDir,
}

async fn shop(pages: fn(Database) -> Pages) -> Shop {
    let (directory, database) = database();
    let client = serve(pages(database.clone())).await;
    Shop { client, database, _directory: directory }
}

fn database() -> (TempDir, Database) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    seed::prepare(&path, Size::SMALL, |_| {}).unwrap();
    let database = Database::open(&path).unwrap();
    (directory, database)
}

/// Serves on a free port until the runtime of the test ends.
async fn serve(pages: Pages) -> Client {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(service::serve(listener, pages, pending()));
    Client::connect(address).await.unwrap()
}

impl Shop {
    async fn product(&self, id: u32) -> ProductPage {
        self.client.get(&format!("/products/{id}")).await.unwrap().json().unwrap()
    }

    async fn listing(&self, id: u32) -> Listing {
        self.client.get(&format!("/categories/{id}")).await.unwrap().json().unwrap()
    }

    async fn stock(&self, id: u32) -> u32 {
        self.client.get(&format!("/products/{id}/stock")).await.unwrap().json::<Stock>().unwrap().pieces
    }

    async fn page_from(&self, path: &str) -> String {
        page_from(&self.client, path).await
    }
}

async fn pages_are_what_the_database_holds(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    for _ in 0..2 {
        let product = shop.product(1).await;
        assert_eq!(Some(product), shop.database.product(storefront::shop::ProductId(1)).await.unwrap());
        let listing = shop.listing(3).await;
        assert_eq!(Some(listing), shop.database.listing(storefront::shop::CategoryId(3)).await.unwrap());
        let user: UserPage = shop.client.get("/users/9").await.unwrap().json().unwrap();
        assert_eq!(Some(user), shop.database.user(storefront::shop::UserId(9)).await.unwrap());
    }
}

async fn an_updated_price_is_what_the_next_reads_show(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    let category = shop.product(1).await.category;
    for price_cents in [1, 1_999, 77] {
        // Both pages are warm now, with the old price.
        shop.product(1).await;
        shop.listing(category.0).await;
        let answer =
            shop.client.put("/products/1/price", &json!({ "price_cents": price_cents })).await.unwrap();
        let price: Price = answer.json().unwrap();
        assert_eq!((price.category, price.price_cents), (category, price_cents));
        assert_eq!(shop.product(1).await.price_cents, price_cents);
        let listing = shop.listing(category.0).await;
        let line = listing.bestsellers.iter().find(|line| line.id.0 == 1).unwrap();
        assert_eq!(line.price_cents, price_cents);
    }
}

async fn a_dearer_category_is_what_the_next_reads_show(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    for _ in 0..2 {
        // All warm, with the old prices.
        let listing = shop.listing(3).await;
        for line in &listing.bestsellers {
            assert_eq!(shop.product(line.id.0).await.price_cents, line.price_cents);
        }
        let elsewhere = shop.listing(4).await.bestsellers[0].clone();
        let answer = shop.client.put("/categories/3/prices", &json!({ "by_cents": 25 })).await.unwrap();
        assert!(answer.json::<CategoryPrices>().unwrap().products >= listing.bestsellers.len() as u64);
        for line in listing.bestsellers {
            assert_eq!(shop.product(line.id.0).await.price_cents, line.price_cents + 25);
        }
        assert_eq!(shop.product(elsewhere.id.0).await.price_cents, elsewhere.price_cents);
    }
}

async fn stock_that_was_counted_is_what_the_next_reads_show(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    let other = shop.stock(2).await;
    for pieces in [5, 0, 7] {
        shop.stock(1).await;
        let answer = shop.client.put("/products/1/stock", &json!({ "pieces": pieces })).await.unwrap();
        assert_eq!(answer.json::<Stock>().unwrap(), Stock { pieces });
        assert_eq!(shop.stock(1).await, pieces);
    }
    assert_eq!(shop.stock(2).await, other);
}

async fn views_that_were_counted_are_what_the_next_reads_show(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    assert_eq!(shop.client.get("/products/1/views").await.unwrap().status.as_u16(), 404);
    for views in 1..=3 {
        viewing::look_at(&shop.client, ProductId(1)).await.unwrap();
        let answer = shop.client.get("/products/1/views").await.unwrap();
        assert_eq!(answer.json::<Views>().unwrap(), Views { views });
    }
    assert!(viewing::look_at(&shop.client, ProductId(401)).await.is_err());
}

async fn a_session_lasts_from_sign_in_to_sign_out(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    let name: String = shop.client.post("/users/9/sessions").await.unwrap().json().unwrap();
    let path = format!("/sessions/{name}");
    for _ in 0..2 {
        let session: Session = shop.client.get(&path).await.unwrap().json().unwrap();
        assert_eq!(session.user.0, 9);
    }
    assert!(shop.client.delete(&path).await.unwrap().status.is_success());
    for unknown in [&path, "/sessions/nobody"] {
        assert_eq!(shop.client.get(unknown).await.unwrap().status.as_u16(), 404);
    }
    assert_eq!(shop.client.post("/users/4000/sessions").await.unwrap().status.as_u16(), 404);
}

async fn unknown_ids_are_404(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    for path in [
        "/products/401",
        "/products/0",
        "/products/401/stock",
        "/categories/9",
        "/users/4000000000",
        "/nothing",
    ] {
        for _ in 0..2 {
            assert_eq!(shop.client.get(path).await.unwrap().status.as_u16(), 404, "{path}");
        }
    }
    let answer = shop.client.put("/products/401/price", &json!({ "price_cents": 1 })).await.unwrap();
    assert_eq!(answer.status.as_u16(), 404);
    let answer = shop.client.put("/products/401/stock", &json!({ "pieces": 1 })).await.unwrap();
    assert_eq!(answer.status.as_u16(), 404);
    let answer = shop.client.put("/categories/9/prices", &json!({ "by_cents": 1 })).await.unwrap();
    assert_eq!(answer.status.as_u16(), 404);
}

async fn requests_that_are_none_are_refused(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    assert_eq!(shop.client.get("/products/first").await.unwrap().status.as_u16(), 400);
    assert_eq!(shop.client.get("/users/-1").await.unwrap().status.as_u16(), 400);
    let answer = shop.client.put("/products/1/price", &json!({ "price_cents": -5 })).await.unwrap();
    assert_eq!(answer.status.as_u16(), 422);
    assert_eq!(shop.database.query_count().writes, 0);
}

macro_rules! with_and_without_cache {
    ($($test:ident)*) => {
        mod without_cache {
            $(#[tokio::test] async fn $test() { super::$test(super::direct).await; })*
        }
        mod with_cache {
            $(#[tokio::test] async fn $test() { super::$test(super::cached).await; })*
        }
    };
}

with_and_without_cache! {
    pages_are_what_the_database_holds
    an_updated_price_is_what_the_next_reads_show
    a_dearer_category_is_what_the_next_reads_show
    stock_that_was_counted_is_what_the_next_reads_show
    views_that_were_counted_are_what_the_next_reads_show
    a_session_lasts_from_sign_in_to_sign_out
    unknown_ids_are_404
    requests_that_are_none_are_refused
}

fn direct(database: Database) -> Pages {
    Pages::Direct(database)
}

fn cached(database: Database) -> Pages {
    Pages::Cached(Arc::new(Catalog::new(database, None).unwrap()))
}

#[tokio::test]
async fn without_cache_every_read_is_a_query() {
    let shop = shop(direct).await;
    for _ in 0..3 {
        assert_eq!(shop.page_from("/products/1").await, "database");
    }
    let stats: Stats = shop.client.get("/stats").await.unwrap().json().unwrap();
    assert_eq!((stats.database.reads, stats.cache.reads()), (3, 0));
}

#[tokio::test]
async fn with_cache_a_page_is_queried_once_until_it_changes() {
    let shop = shop(cached).await;
    assert_eq!(shop.page_from("/products/1").await, "loaded");
    assert_eq!(shop.page_from("/products/1").await, "memory");
    assert_eq!(shop.page_from("/users/1").await, "loaded");
    assert_eq!(shop.page_from("/users/1").await, "memory");
    shop.client.put("/products/1/price", &json!({ "price_cents": 5 })).await.unwrap();
    assert_eq!(shop.page_from("/products/1").await, "loaded");
    assert_eq!(shop.page_from("/users/1").await, "memory");
    let stats: Stats = shop.client.get("/stats").await.unwrap().json().unwrap();
    assert_eq!(stats.database, QueryCount { reads: 3, writes: 1 });
    assert_eq!((stats.cache.loaded, stats.cache.memory), (3, 3));
}

#[tokio::test]
async fn an_update_leaves_the_pages_of_other_products_and_categories_cached() {
    let shop = shop(cached).await;
    let category = shop.product(1).await.category.0;
    let other_category = category % 8 + 1;
    for path in
        ["/products/2".to_owned(), format!("/categories/{category}"), format!("/categories/{other_category}")]
    {
        shop.client.get(&path).await.unwrap();
    }
    shop.client.put("/products/1/price", &json!({ "price_cents": 5 })).await.unwrap();
    assert_eq!(shop.page_from("/products/2").await, "memory");
    assert_eq!(shop.page_from(&format!("/categories/{other_category}")).await, "memory");
    assert_eq!(shop.page_from(&format!("/categories/{category}")).await, "loaded");
}

#[tokio::test]
async fn a_dearer_category_leaves_the_pages_of_others_cached() {
    let shop = shop(cached).await;
    let (ours, other) = (shop.listing(3).await, shop.listing(4).await);
    let page = |listing: &Listing| format!("/products/{}", listing.bestsellers[0].id);
    for listing in [&ours, &other] {
        shop.client.get(&page(listing)).await.unwrap();
    }
    shop.client.put("/categories/3/prices", &json!({ "by_cents": 25 })).await.unwrap();
    assert_eq!(shop.page_from(&page(&ours)).await, "loaded");
    assert_eq!(shop.page_from("/categories/3").await, "loaded");
    assert_eq!(shop.page_from(&page(&other)).await, "memory");
    assert_eq!(shop.page_from("/categories/4").await, "memory");
}

#[tokio::test]
async fn callers_who_watch_a_category_become_dearer_see_no_old_price_after_it() {
    let shop = shop(cached).await;
    let seen = repricing::change_category(&[Arc::new(shop.client)]).await.unwrap();
    assert!(seen.reads > 0 && seen.elsewhere.is_none());
}

#[tokio::test]
async fn stock_that_is_written_through_is_read_without_a_query() {
    let shop = shop(cached).await;
    shop.client.put("/products/1/stock", &json!({ "pieces": 5 })).await.unwrap();
    assert_eq!(shop.page_from("/products/1/stock").await, "memory");
    assert_eq!(shop.database.query_count(), QueryCount { reads: 0, writes: 1 });
}

#[tokio::test]
async fn views_of_one_product_are_one_statement_and_a_journal_keeps_them_until_then() {
    let (directory, database) = database();
    let journal = directory.path().join("views");
    for restart in 1..=2 {
        let catalog = Catalog::new(database.clone(), None).unwrap().journaled(&journal).await.unwrap();
        for _ in 0..50 {
            catalog.count_view(ProductId(1)).await.unwrap().unwrap();
        }
        let read = catalog.views(ProductId(1)).await.unwrap().unwrap();
        assert_eq!(*read, Views { views: 50 * restart });
        catalog.shutdown().await.unwrap();
        let counted = database.views(ProductId(1)).await.unwrap();
        assert_eq!(counted, Some(Views { views: 50 * restart }));
    }
    assert!(database.query_count().writes < 10, "{:?}", database.query_count());
}

#[tokio::test]
async fn a_crowd_before_a_cold_page_is_one_query() {
    let shop = shop(cached).await;
    let nodes = [Arc::new(shop.client)];
    let crowd = load::cold_key(&nodes, &Arc::default()).await.unwrap();
    assert_eq!((crowd.callers, shop.database.query_count().reads), (1_000, 1));
}

#[tokio::test]
async fn an_id_known_to_be_unknown_is_not_asked_for_again() {
    let shop = shop(cached).await;
    for _ in 0..3 {
        assert_eq!(shop.client.get("/products/401").await.unwrap().status.as_u16(), 404);
    }
    assert_eq!(shop.database.query_count().reads, 1);
}

/// Two services as in two processes: each with caches and connections of its own, one database, one Redis.
async fn two_services(database: &Database, redis: &storefront::redis::Redis) -> [Arc<Client>; 2] {
    let mut clients = Vec::new();
    for _ in 0..2 {
        let shared = Shared::connect(&redis.url()).await.unwrap();
        let catalog = Catalog::new(database.clone(), Some(shared)).unwrap();
        // What is loaded before a cache has subscribed is not trusted by its memory.
        while catalog.stats().iter().any(|cache| cache.gaps == 0) {
            tokio::task::yield_now().await;
        }
        clients.push(Arc::new(serve(Pages::Cached(Arc::new(catalog))).await));
    }
    clients.try_into().unwrap()
}

async fn page_from(client: &Client, path: &str) -> String {
    client.get(path).await.unwrap().headers[service::PAGE_FROM].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_one_service_has_loaded_the_other_finds_in_redis() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let [one, other] = two_services(&database, &redis).await;
    for path in ["/products/1", "/categories/1", "/users/1"] {
        assert_eq!(page_from(&one, path).await, "loaded");
        assert_eq!(page_from(&other, path).await, "redis");
        let (a, b) = (one.get(path).await.unwrap(), other.get(path).await.unwrap());
        assert_eq!(a.body, b.body);
    }
    assert_eq!(database.query_count().reads, 3);
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn an_update_by_one_service_is_what_the_other_reads_from_redis() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let [one, other] = two_services(&database, &redis).await;
    one.get("/products/1").await.unwrap();
    one.put("/products/1/price", &json!({ "price_cents": 4_321 })).await.unwrap();
    let page: ProductPage = other.get("/products/1").await.unwrap().json().unwrap();
    assert_eq!(page.price_cents, 4_321);
    let page: ProductPage = one.get("/products/1").await.unwrap().json().unwrap();
    assert_eq!(page.price_cents, 4_321);
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn what_one_service_makes_dearer_the_other_forgets_as_soon_as_it_hears_of_it() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let nodes = two_services(&database, &redis).await;
    let seen = repricing::change_category(&nodes).await.unwrap();
    assert!(seen.elsewhere.is_some());
    let stats: Stats = nodes[1].get("/stats").await.unwrap().json().unwrap();
    assert!(stats.cache.heard > 0, "{stats:?}");
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn stock_that_one_service_counts_the_other_shows_as_soon_as_it_hears_of_it() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let nodes = two_services(&database, &redis).await;
    let counted = stocktaking::count(&nodes).await.unwrap();
    assert!(counted.elsewhere.is_some());
    let path = "/products/20/stock";
    assert!(["memory", "redis"].contains(&page_from(&nodes[1], path).await.as_str()));
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn what_one_service_updates_costs_the_other_that_page_alone() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let [one, other] = two_services(&database, &redis).await;
    let cache = async || other.get("/stats").await.unwrap().json::<Stats>().unwrap().cache;
    let update = async |path: &str| {
        let before = cache().await.heard;
        one.put(path, &json!({ "price_cents": 4_321 })).await.unwrap();
        // The page, and the listing that shows it.
        while cache().await.heard < before + 2 {}
    };
    // At first contact nothing in memory is trusted.
    update("/products/3/price").await;
    for path in ["/products/1", "/products/2"] {
        one.get(path).await.unwrap();
        other.get(path).await.unwrap();
    }
    let gaps = cache().await.gaps;
    update("/products/1/price").await;
    assert_eq!(page_from(&other, "/products/2").await, "memory");
    assert_eq!(page_from(&other, "/products/1").await, "loaded");
    assert_eq!(cache().await.gaps, gaps);
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn services_whose_bus_is_cut_notice_it_and_keep_no_old_price() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let nodes = two_services(&database, &redis).await;
    for round in 0..3 {
        let cut = repricing::cut(&nodes, &redis).await.unwrap();
        // One for each cache of each service; later some may not be back yet.
        let expected = if round == 0 { 12..=12 } else { 1..=12 };
        assert!(expected.contains(&cut.connections), "{} in round {round}", cut.connections);
    }
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn a_crowd_before_two_services_is_one_query_too() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let nodes = two_services(&database, &redis).await;
    load::cold_key(&nodes, &Arc::default()).await.unwrap();
    assert_eq!(database.query_count().reads, 1);
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn pages_are_served_and_updated_while_redis_is_away() {
    let (_directory, database) = database();
    let redis = storefront::redis::Redis::start().await.unwrap();
    let [one, _other] = two_services(&database, &redis).await;
    one.get("/products/1").await.unwrap();
    redis.stop().await.unwrap();
    let answer = one.put("/products/1/price", &json!({ "price_cents": 4_321 })).await.unwrap();
    assert_eq!(answer.json::<Price>().unwrap().price_cents, 4_321);
    for _ in 0..2 {
        let page: ProductPage = one.get("/products/1").await.unwrap().json().unwrap();
        assert_eq!(page.price_cents, 4_321);
    }
}
