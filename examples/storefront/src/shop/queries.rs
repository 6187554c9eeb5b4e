//! The questions the service asks its database, one method each.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{
    Bestseller, CategoryId, CategoryPrices, Database, DatabaseError, Listing, Price, ProductId, ProductPage,
    Stock, UserId, UserPage,
};

const PRODUCT: &str = "
    SELECT p.name, p.description, p.price_cents, p.category_id, c.name AS category_name,
           count(l.order_id) AS orders,
           coalesce(sum(l.quantity), 0) AS units_sold,
           coalesce(sum(l.quantity * l.price_cents), 0) AS revenue_cents,
           count(DISTINCT o.user_id) AS buyers,
           max(o.ordered_at) AS last_ordered_at
      FROM products p
      JOIN categories c ON c.id = p.category_id
      LEFT JOIN order_lines l ON l.product_id = p.id
      LEFT JOIN orders o ON o.id = l.order_id
     WHERE p.id = ?1
     GROUP BY p.id";

/// From the category outwards, so that an empty category is a row and an unknown one is none.
const LISTING: &str = "
    SELECT c.id AS category_id, c.name AS category_name, p.id, p.name, p.price_cents,
           coalesce(sum(l.quantity), 0) AS units_sold,
           count(DISTINCT o.user_id) AS buyers
      FROM categories c
      LEFT JOIN products p ON p.category_id = c.id
      LEFT JOIN order_lines l ON l.product_id = p.id
      LEFT JOIN orders o ON o.id = l.order_id
     WHERE c.id = ?1
     GROUP BY p.id
     ORDER BY units_sold DESC, p.id
     LIMIT ?2";

/// As [`LISTING`], of some products alone, given as a list in JSON.
const LISTING_OF: &str = "
    SELECT c.id AS category_id, c.name AS category_name, p.id, p.name, p.price_cents,
           coalesce(sum(l.quantity), 0) AS units_sold,
           count(DISTINCT o.user_id) AS buyers
      FROM categories c
      LEFT JOIN products p ON p.category_id = c.id AND p.id IN (SELECT value FROM json_each(?2))
      LEFT JOIN order_lines l ON l.product_id = p.id
      LEFT JOIN orders o ON o.id = l.order_id
     WHERE c.id = ?1
     GROUP BY p.id
     ORDER BY units_sold DESC, p.id";

/// How many lines a listing has.
const LINES: usize = 20;

const USER: &str = "
    SELECT u.name, u.email,
           count(DISTINCT o.id) AS orders,
           coalesce(sum(l.quantity * l.price_cents), 0) AS spent_cents,
           max(o.ordered_at) AS last_ordered_at
      FROM users u
      LEFT JOIN orders o ON o.user_id = u.id
      LEFT JOIN order_lines l ON l.order_id = o.id
     WHERE u.id = ?1
     GROUP BY u.id";

const STOCK: &str = "SELECT pieces FROM stock WHERE product_id = ?1";

const SET_STOCK: &str = "UPDATE stock SET pieces = ?2 WHERE product_id = ?1";

const REPRICE: &str = "UPDATE products SET price_cents = ?2 WHERE id = ?1 RETURNING category_id";

const REPRICE_CATEGORY: &str = "UPDATE products SET price_cents = price_cents + ?2 WHERE category_id = ?1";

impl Database {
    /// A product with its sales: joins every order that contains it. `None` if there is no such product.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn product(&self, id: ProductId) -> Result<Option<ProductPage>, DatabaseError> {
        self.read(move |connection| {
            let mut query = connection.prepare_cached(PRODUCT)?;
            query.query_row([id.0], |row| product_page(id, row)).optional()
        })
        .await
    }

    /// A category's bestsellers: aggregates the orders of all its products. `None` if there is no
    /// such category.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn listing(&self, id: CategoryId) -> Result<Option<Listing>, DatabaseError> {
        self.read(move |connection| listing(connection, LISTING, params![id.0, LINES])).await
    }

    /// As [`listing`](Self::listing) with these products in it, if they are the category's: aggregates their orders alone.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn listing_of(
        &self,
        id: CategoryId,
        products: Vec<ProductId>,
    ) -> Result<Option<Listing>, DatabaseError> {
        let products = products.iter().map(ProductId::to_string).collect::<Vec<_>>().join(",");
        self.read(move |connection| listing(connection, LISTING_OF, params![id.0, format!("[{products}]")]))
            .await
    }

    /// As [`listing`](Self::listing), and how many pieces each product of the category sold: one query.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn listing_and_sales(
        &self,
        id: CategoryId,
    ) -> Result<Option<(Listing, Vec<(ProductId, u64)>)>, DatabaseError> {
        let all = self.read(move |connection| listing(connection, LISTING, params![id.0, -1])).await?;
        Ok(all.map(|mut listing| {
            let sold = listing.bestsellers.iter().map(|line| (line.id, line.units_sold)).collect();
            listing.bestsellers.truncate(LINES);
            (listing, sold)
        }))
    }

    /// A user with their orders summed up. `None` if there is no such user.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn user(&self, id: UserId) -> Result<Option<UserPage>, DatabaseError> {
        self.read(move |connection| {
            let mut query = connection.prepare_cached(USER)?;
            query.query_row([id.0], |row| user_page(id, row)).optional()
        })
        .await
    }

    /// How much of a product there is. `None` if there is no such product.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn stock(&self, product: ProductId) -> Result<Option<Stock>, DatabaseError> {
        self.read(move |connection| {
            let mut query = connection.prepare_cached(STOCK)?;
            query.query_row([product.0], |row| Ok(Stock { pieces: row.get(0)? })).optional()
        })
        .await
    }

    /// Notes how much of a product there is from now on. Committed when this returns.
    ///
    /// # Errors
    /// [`DatabaseError::NoProduct`] if there is no such product; when SQLite does not answer, or stays locked by
    /// another process for 5 s.
    pub async fn set_stock(&self, product: ProductId, stock: Stock) -> Result<(), DatabaseError> {
        let changed = self
            .write(move |connection| {
                let mut statement = connection.prepare_cached(SET_STOCK)?;
                statement.execute(params![product.0, stock.pieces])
            })
            .await?;
        if changed == 0 { Err(DatabaseError::NoProduct(product)) } else { Ok(()) }
    }

    /// Changes a product's price. Committed when this returns; `None` if there is no such product.
    ///
    /// # Errors
    /// When SQLite does not answer, or stays locked by another process for 5 s.
    pub async fn reprice(
        &self,
        product: ProductId,
        price_cents: u32,
    ) -> Result<Option<Price>, DatabaseError> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(REPRICE)?;
            let category = statement
                .query_row(params![product.0, price_cents], |row| row.get(0).map(CategoryId))
                .optional()?;
            Ok(category.map(|category| Price { product, category, price_cents }))
        })
        .await
    }

    /// Makes all products of a category dearer. Committed when this returns; `None` if it has none.
    ///
    /// # Errors
    /// When SQLite does not answer, or stays locked by another process for 5 s.
    pub async fn reprice_category(
        &self,
        category: CategoryId,
        by_cents: u32,
    ) -> Result<Option<CategoryPrices>, DatabaseError> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(REPRICE_CATEGORY)?;
            let products = statement.execute(params![category.0, by_cents])? as u64;
            Ok((products > 0).then_some(CategoryPrices { category, products }))
        })
        .await
    }
}

fn product_page(id: ProductId, row: &Row<'_>) -> rusqlite::Result<ProductPage> {
    Ok(ProductPage {
        id,
        name: row.get("name")?,
        description: row.get("description")?,
        price_cents: row.get("price_cents")?,
        category: CategoryId(row.get("category_id")?),
        category_name: row.get("category_name")?,
        orders: row.get("orders")?,
        units_sold: row.get("units_sold")?,
        revenue_cents: row.get("revenue_cents")?,
        buyers: row.get("buyers")?,
        last_ordered_at: row.get("last_ordered_at")?,
    })
}

/// The first parameter is the category.
fn listing(
    connection: &Connection,
    query: &str,
    parameters: &[&dyn ToSql],
) -> rusqlite::Result<Option<Listing>> {
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query(parameters)?;
    let mut listing = None;
    while let Some(row) = rows.next()? {
        let (id, name) = (CategoryId(row.get("category_id")?), row.get("category_name")?);
        let listing = listing.get_or_insert(Listing { id, name, bestsellers: Vec::new() });
        if row.get::<_, Option<u32>>("id")?.is_some() {
            listing.bestsellers.push(bestseller(row)?);
        }
    }
    Ok(listing)
}

fn bestseller(row: &Row<'_>) -> rusqlite::Result<Bestseller> {
    Ok(Bestseller {
        id: ProductId(row.get("id")?),
        name: row.get("name")?,
        price_cents: row.get("price_cents")?,
        units_sold: row.get("units_sold")?,
        buyers: row.get("buyers")?,
    })
}

fn user_page(id: UserId, row: &Row<'_>) -> rusqlite::Result<UserPage> {
    Ok(UserPage {
        id,
        name: row.get("name")?,
        email: row.get("email")?,
        orders: row.get("orders")?,
        spent_cents: row.get("spent_cents")?,
        last_ordered_at: row.get("last_ordered_at")?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::shop::seed::{self, OrderRow, ProductRow, Size};

    struct Shop {
        _dir: tempfile::TempDir,
        database: Database,
        products: Vec<ProductRow>,
        orders: Vec<OrderRow>,
    }

    fn shop() -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        seed::prepare(&path, Size::SMALL, |_| {}).unwrap();
        Shop {
            database: Database::open(&path).unwrap(),
            _dir: dir,
            products: seed::products(seed::SEED, Size::SMALL).collect(),
            orders: seed::orders(seed::SEED, Size::SMALL).collect(),
        }
    }

    impl Shop {
        /// (orders, units, revenue, buyers) of a product, added up in Rust.
        fn sales(&self, id: ProductId) -> (u64, u64, u64, u64) {
            let mut buyers = HashSet::new();
            let (mut orders, mut units, mut revenue) = (0, 0, 0);
            for order in &self.orders {
                for line in order.lines.iter().filter(|line| line.product == id) {
                    orders += 1;
                    units += u64::from(line.quantity);
                    revenue += u64::from(line.quantity * line.price_cents);
                    buyers.insert(order.user);
                }
            }
            (orders, units, revenue, buyers.len() as u64)
        }
    }

    #[tokio::test]
    async fn a_product_page_adds_up_the_orders_that_contain_it() {
        let shop = shop();
        for row in shop.products.iter().step_by(37) {
            let page = shop.database.product(row.id).await.unwrap().unwrap();
            assert_eq!(
                (&page.name, page.price_cents, page.category),
                (&row.name, row.price_cents, row.category)
            );
            let sales = (page.orders, page.units_sold, page.revenue_cents, page.buyers);
            assert_eq!(sales, shop.sales(row.id), "product {}", row.id);
            let last = shop.orders.iter().rev().find(|o| o.lines.iter().any(|line| line.product == row.id));
            assert_eq!(page.last_ordered_at, last.map(|order| order.ordered_at));
        }
    }

    #[tokio::test]
    async fn a_listing_has_the_twenty_best_of_its_category_best_first() {
        let shop = shop();
        let listing = shop.database.listing(CategoryId(3)).await.unwrap().unwrap();
        let mut expected: Vec<(u64, ProductId)> = shop
            .products
            .iter()
            .filter(|row| row.category == CategoryId(3))
            .map(|row| (shop.sales(row.id).1, row.id))
            .collect();
        expected.sort_by_key(|&(units, id)| (std::cmp::Reverse(units), id));
        expected.truncate(20);
        assert_eq!(expected.len(), 20);
        let listed: Vec<_> = listing.bestsellers.iter().map(|line| (line.units_sold, line.id)).collect();
        assert_eq!(listed, expected);
        assert_eq!(listing.bestsellers[0].buyers, shop.sales(expected[0].1).3);
    }

    #[tokio::test]
    async fn a_listing_of_chosen_products_is_the_same_listing_and_knows_no_others() {
        let shop = shop();
        let category = CategoryId(3);
        let listing = shop.database.listing(category).await.unwrap().unwrap();
        let (again, sold) = shop.database.listing_and_sales(category).await.unwrap().unwrap();
        assert_eq!(again, listing);
        let own = shop.products.iter().filter(|row| row.category == category);
        assert_eq!(sold.len(), own.count());
        for (product, units) in sold.into_iter().step_by(7) {
            assert_eq!(units, shop.sales(product).1, "product {product}");
        }
        let mut chosen: Vec<ProductId> = listing.bestsellers.iter().map(|line| line.id).collect();
        chosen.reverse();
        assert_eq!(shop.database.listing_of(category, chosen).await.unwrap().unwrap(), listing);
        let elsewhere = shop.products.iter().find(|row| row.category != category).unwrap().id;
        let none = shop.database.listing_of(category, vec![elsewhere]).await.unwrap().unwrap();
        assert_eq!((none.id, none.bestsellers.len()), (category, 0));
        assert_eq!(shop.database.listing_of(CategoryId(99), vec![]).await.unwrap(), None);
        assert_eq!(shop.database.listing_and_sales(CategoryId(99)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_user_page_adds_up_the_users_orders() {
        let shop = shop();
        let id = UserId(5);
        let page = shop.database.user(id).await.unwrap().unwrap();
        let own: Vec<_> = shop.orders.iter().filter(|order| order.user == id).collect();
        let lines = own.iter().flat_map(|order| &order.lines);
        let spent: u64 = lines.map(|line| u64::from(line.quantity * line.price_cents)).sum();
        assert_eq!((page.orders, page.spent_cents), (own.len() as u64, spent));
        assert_eq!(page.last_ordered_at, own.last().map(|order| order.ordered_at));
    }

    #[tokio::test]
    async fn unknown_ids_are_none() {
        let shop = shop();
        assert_eq!(shop.database.product(ProductId(99_999)).await.unwrap(), None);
        assert_eq!(shop.database.listing(CategoryId(0)).await.unwrap(), None);
        assert_eq!(shop.database.user(UserId(101)).await.unwrap(), None);
        assert_eq!(shop.database.reprice(ProductId(99_999), 1).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_noted_as_stock_is_what_the_next_query_reads_of_that_product_alone() {
        let shop = shop();
        let other = shop.database.stock(ProductId(8)).await.unwrap();
        shop.database.set_stock(ProductId(7), Stock { pieces: 5 }).await.unwrap();
        assert_eq!(shop.database.stock(ProductId(7)).await.unwrap(), Some(Stock { pieces: 5 }));
        assert_eq!(shop.database.stock(ProductId(8)).await.unwrap(), other);
        assert_eq!(shop.database.stock(ProductId(99_999)).await.unwrap(), None);
        let refused = shop.database.set_stock(ProductId(99_999), Stock { pieces: 5 }).await;
        assert!(matches!(refused, Err(DatabaseError::NoProduct(ProductId(99_999)))));
    }

    #[tokio::test]
    async fn a_category_without_products_is_an_empty_listing() {
        let shop = shop();
        let add =
            |connection: &Connection| connection.execute("INSERT INTO categories VALUES (9, 'Nothing')", []);
        shop.database.write(add).await.unwrap();
        let listing = shop.database.listing(CategoryId(9)).await.unwrap().unwrap();
        assert_eq!((listing.name.as_str(), listing.bestsellers.len()), ("Nothing", 0));
    }

    #[tokio::test]
    async fn a_category_becomes_dearer_as_a_whole_and_no_other() {
        let shop = shop();
        let changed = shop.database.reprice_category(CategoryId(3), 25).await.unwrap().unwrap();
        let within = |row: &&ProductRow| row.category == CategoryId(3);
        assert_eq!(changed.products, shop.products.iter().filter(within).count() as u64);
        for row in shop.products.iter().step_by(7) {
            let added = if row.category == CategoryId(3) { 25 } else { 0 };
            let page = shop.database.product(row.id).await.unwrap().unwrap();
            assert_eq!(page.price_cents, row.price_cents + added, "product {}", row.id);
        }
        assert_eq!(shop.database.reprice_category(CategoryId(99), 25).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_new_price_is_what_the_next_query_reads() {
        let shop = shop();
        let row = &shop.products[0];
        let price = shop.database.reprice(row.id, 1_234).await.unwrap().unwrap();
        assert_eq!(price, Price { product: row.id, category: row.category, price_cents: 1_234 });
        let page = shop.database.product(row.id).await.unwrap().unwrap();
        assert_eq!(page.price_cents, 1_234);
        let listing = shop.database.listing(row.category).await.unwrap().unwrap();
        let listed = listing.bestsellers.iter().find(|line| line.id == row.id).unwrap();
        assert_eq!(listed.price_cents, 1_234);
    }
}
