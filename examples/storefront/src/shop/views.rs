//! How often pages were looked at. A row for each product and each who counts; their sum is what the shop shows.
//!
//! What is counted up must not be counted twice. So a count has a number, each who counts has a row of their own, and
//! that says which numbers are in it: what comes a second time, after a crash, changes nothing.

use rusqlite::{OptionalExtension, params};

use super::{Database, DatabaseError, ProductId, Views};

/// Views that somebody has counted since their last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Of which product.
    pub product: ProductId,
    /// How many.
    pub views: u64,
    /// Who.
    pub writer: u128,
    /// Which of theirs: above all before.
    pub sequence: u64,
}

const VIEWS: &str = "SELECT sum(views) FROM views WHERE product_id = ?1";

const COUNT: &str = "
    INSERT INTO views (product_id, writer, sequence, views) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (product_id, writer) DO UPDATE
       SET views = views + excluded.views, sequence = excluded.sequence
     WHERE sequence < excluded.sequence";

const COUNT_ONE: &str = "
    INSERT INTO views (product_id, writer, sequence, views) SELECT id, x'', 0, 1 FROM products WHERE id = ?1
        ON CONFLICT (product_id, writer) DO UPDATE SET views = views + 1";

impl Database {
    /// How often a product's page was looked at. `None` if nobody has yet.
    ///
    /// # Errors
    /// When SQLite does not answer.
    pub async fn views(&self, product: ProductId) -> Result<Option<Views>, DatabaseError> {
        self.read(move |connection| {
            let mut query = connection.prepare_cached(VIEWS)?;
            let views = query.query_row([product.0], |row| row.get::<_, Option<u64>>(0)).optional()?;
            Ok(views.flatten().map(|views| Views { views }))
        })
        .await
    }

    /// Adds what was counted, all of it or nothing, and what is in there already not again.
    ///
    /// # Errors
    /// When there is no such product, or SQLite does not answer.
    pub async fn add_views(&self, counted: Vec<Counted>) -> Result<(), DatabaseError> {
        self.write_many(counted.len() as u64, move |connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut count = transaction.prepare_cached(COUNT)?;
            for Counted { product, views, writer, sequence } in counted {
                count.execute(params![product.0, writer.to_be_bytes(), sequence, views])?;
            }
            drop(count);
            transaction.commit()
        })
        .await
    }

    /// Counts one view at once.
    ///
    /// # Errors
    /// [`DatabaseError::NoProduct`]; when SQLite does not answer.
    pub async fn count_view(&self, product: ProductId) -> Result<(), DatabaseError> {
        let changed =
            self.write(move |connection| connection.prepare_cached(COUNT_ONE)?.execute([product.0])).await?;
        if changed == 0 { Err(DatabaseError::NoProduct(product)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::seed::{self, Size};

    const PRODUCT: ProductId = ProductId(7);

    fn counted(writer: u128, sequence: u64, views: u64) -> Counted {
        Counted { product: PRODUCT, views, writer, sequence }
    }

    fn shop() -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        seed::prepare(&path, Size::SMALL, |_| {}).unwrap();
        (directory, Database::open(&path).unwrap())
    }

    #[tokio::test]
    async fn what_comes_a_second_time_is_not_counted_again_whoever_counted_in_between() {
        let (_directory, database) = shop();
        database.add_views(vec![counted(1, 1, 10), counted(2, 1, 100)]).await.unwrap();
        database.add_views(vec![counted(1, 1, 10), counted(1, 3, 5), counted(2, 1, 100)]).await.unwrap();
        assert_eq!(database.views(PRODUCT).await.unwrap(), Some(Views { views: 115 }));
        assert_eq!(database.views(ProductId(8)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn of_counts_of_which_one_is_of_no_product_none_is_added() {
        let (_directory, database) = shop();
        let unknown = Counted { product: ProductId(99_999), ..counted(1, 2, 1) };
        assert!(database.add_views(vec![counted(1, 1, 10), unknown]).await.is_err());
        assert_eq!(database.views(PRODUCT).await.unwrap(), None);
    }

    #[tokio::test]
    async fn views_are_counted_one_by_one_too() {
        let (_directory, database) = shop();
        database.add_views(vec![counted(1, 1, 10)]).await.unwrap();
        for _ in 0..3 {
            database.count_view(PRODUCT).await.unwrap();
        }
        assert_eq!(database.views(PRODUCT).await.unwrap(), Some(Views { views: 13 }));
        let unknown = database.count_view(ProductId(99_999)).await;
        assert!(matches!(unknown, Err(DatabaseError::NoProduct(_))));
    }
}
