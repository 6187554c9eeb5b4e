//! Orders as customers place them, one product each.

use rusqlite::{OptionalExtension, params};

use super::{CategoryId, Database, DatabaseError, ProductId, Sale, UserId};

const PLACE: &str = "
    INSERT INTO orders (user_id, ordered_at)
    SELECT u.id, unixepoch() FROM users u JOIN products p ON p.id = ?2 WHERE u.id = ?1";

const LINE: &str = "
    INSERT INTO order_lines (order_id, product_id, quantity, price_cents)
    SELECT last_insert_rowid(), id, ?2, price_cents FROM products WHERE id = ?1";

const SOLD: &str = "
    SELECT p.category_id, sum(l.quantity)
      FROM products p JOIN order_lines l ON l.product_id = p.id
     WHERE p.id = ?1";

impl Database {
    /// Places an order, at today's price, and says how often the product has sold now. Committed when this returns;
    /// `None` if there is no such user or no such product.
    ///
    /// # Errors
    /// When SQLite does not answer, or stays locked by another process for 5 s.
    pub async fn order(
        &self,
        user: UserId,
        product: ProductId,
        pieces: u32,
    ) -> Result<Option<Sale>, DatabaseError> {
        self.write_many(2, move |connection| {
            let transaction = connection.unchecked_transaction()?;
            if transaction.prepare_cached(PLACE)?.execute(params![user.0, product.0])? == 0 {
                return Ok(None);
            }
            transaction.prepare_cached(LINE)?.execute(params![product.0, pieces])?;
            let sale = transaction
                .prepare_cached(SOLD)?
                .query_row([product.0], |row| {
                    Ok(Sale { product, category: CategoryId(row.get(0)?), units_sold: row.get(1)? })
                })
                .optional()?;
            transaction.commit()?;
            Ok(sale)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::seed::{self, Size};

    fn shop() -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        seed::prepare(&path, Size::SMALL, |_| {}).unwrap();
        (directory, Database::open(&path).unwrap())
    }

    #[tokio::test]
    async fn an_order_adds_to_what_the_product_sold_and_the_user_spent() {
        let (_directory, database) = shop();
        let (user, product) = (UserId(5), ProductId(7));
        let before = database.product(product).await.unwrap().unwrap();
        let spent = database.user(user).await.unwrap().unwrap().spent_cents;
        let sale = database.order(user, product, 3).await.unwrap().unwrap();
        let page = database.product(product).await.unwrap().unwrap();
        assert_eq!(sale, Sale { product, category: page.category, units_sold: before.units_sold + 3 });
        assert_eq!((page.orders, page.units_sold), (before.orders + 1, before.units_sold + 3));
        let cost = 3 * u64::from(page.price_cents);
        assert_eq!(database.user(user).await.unwrap().unwrap().spent_cents, spent + cost);
    }

    #[tokio::test]
    async fn an_order_of_nobody_or_of_nothing_is_none() {
        let (_directory, database) = shop();
        for (user, product) in [(UserId(101), ProductId(7)), (UserId(5), ProductId(401))] {
            let before = database.user(UserId(5)).await.unwrap();
            assert_eq!(database.order(user, product, 1).await.unwrap(), None);
            assert_eq!(database.user(UserId(5)).await.unwrap(), before);
        }
    }
}
