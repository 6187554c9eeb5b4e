//! The service over HTTP, with and without the cache: what a caller may rely on.

use std::net::Ipv4Addr;

use serde_json::json;
use storefront::client::Client;
use storefront::pages::{Pages, Stats};
use storefront::service;
use storefront::shop::seed::{self, Size};
use storefront::shop::{Database, Listing, Price, ProductPage, UserPage};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A service of this test's own; ends with it.
struct Shop {
    client: Client,
    database: Database,
    _stop: oneshot::Sender<()>,
    _directory: TempDir,
}

async fn shop(pages: fn(Database) -> Pages) -> Shop {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    seed::prepare(&path, Size::SMALL, |_| {}).unwrap();
    let database = Database::open(&path).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(service::serve(listener, pages(database.clone()), async {
        let _ = stopped.await;
    }));
    let client = Client::connect(address).await.unwrap();
    Shop {
        client,
        database,
        _stop: stop,
        _directory: directory,
    }
}

impl Shop {
    async fn product(&self, id: u32) -> ProductPage {
        self.client
            .get(&format!("/products/{id}"))
            .await
            .unwrap()
            .json()
            .unwrap()
    }

    async fn listing(&self, id: u32) -> Listing {
        self.client
            .get(&format!("/categories/{id}"))
            .await
            .unwrap()
            .json()
            .unwrap()
    }

    async fn page_from(&self, path: &str) -> String {
        let answer = self.client.get(path).await.unwrap();
        answer.headers[service::PAGE_FROM].to_str().unwrap().to_owned()
    }
}

async fn pages_are_what_the_database_holds(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    for _ in 0..2 {
        let product = shop.product(1).await;
        assert_eq!(
            Some(product),
            shop.database
                .product(storefront::shop::ProductId(1))
                .await
                .unwrap()
        );
        let listing = shop.listing(3).await;
        assert_eq!(
            Some(listing),
            shop.database
                .listing(storefront::shop::CategoryId(3))
                .await
                .unwrap()
        );
        let user: UserPage = shop.client.get("/users/9").await.unwrap().json().unwrap();
        assert_eq!(
            Some(user),
            shop.database.user(storefront::shop::UserId(9)).await.unwrap()
        );
    }
}

async fn an_updated_price_is_what_the_next_reads_show(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    let category = shop.product(1).await.category;
    for price_cents in [1, 1_999, 77] {
        // Both pages are warm now, with the old price.
        shop.product(1).await;
        shop.listing(category.0).await;
        let answer = shop
            .client
            .put("/products/1/price", &json!({ "price_cents": price_cents }))
            .await
            .unwrap();
        let price: Price = answer.json().unwrap();
        assert_eq!((price.category, price.price_cents), (category, price_cents));
        assert_eq!(shop.product(1).await.price_cents, price_cents);
        let listing = shop.listing(category.0).await;
        let line = listing.bestsellers.iter().find(|line| line.id.0 == 1).unwrap();
        assert_eq!(line.price_cents, price_cents);
    }
}

async fn unknown_ids_are_404(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    for path in [
        "/products/401",
        "/products/0",
        "/categories/9",
        "/users/4000000000",
        "/nothing",
    ] {
        for _ in 0..2 {
            assert_eq!(
                shop.client.get(path).await.unwrap().status.as_u16(),
                404,
                "{path}"
            );
        }
    }
    let answer = shop
        .client
        .put("/products/401/price", &json!({ "price_cents": 1 }))
        .await
        .unwrap();
    assert_eq!(answer.status.as_u16(), 404);
}

async fn requests_that_are_none_are_refused(pages: fn(Database) -> Pages) {
    let shop = shop(pages).await;
    assert_eq!(
        shop.client.get("/products/first").await.unwrap().status.as_u16(),
        400
    );
    assert_eq!(shop.client.get("/users/-1").await.unwrap().status.as_u16(), 400);
    let answer = shop
        .client
        .put("/products/1/price", &json!({ "price_cents": -5 }))
        .await
        .unwrap();
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
    unknown_ids_are_404
    requests_that_are_none_are_refused
}

fn direct(database: Database) -> Pages {
    Pages::Direct(database)
}

fn cached(database: Database) -> Pages {
    Pages::Direct(database)
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
