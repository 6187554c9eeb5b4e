//! The database as what strategies read and write through: a [`Source`] for each kind of value that they handle.

use async_trait::async_trait;
use cachalot::{ReadOnly, Source};

use crate::shop::{Database, DatabaseError, ProductId, Stock, UserId, UserPage};

/// Users with their orders summed up: a view of several tables, which nobody writes as a whole.
#[async_trait]
impl Source<UserId, UserPage> for Database {
    type Error = ReadOnly<DatabaseError>;

    async fn load(&self, id: &UserId) -> Result<Option<UserPage>, Self::Error> {
        self.user(*id).await.map_err(ReadOnly::Load)
    }

    async fn store(&self, _: &UserId, _: &UserPage) -> Result<(), Self::Error> {
        Err(ReadOnly::Refused)
    }

    async fn delete(&self, _: &UserId) -> Result<(), Self::Error> {
        Err(ReadOnly::Refused)
    }
}

/// What is in stock: a row for each product. A product that is not sold any more has none of it.
#[async_trait]
impl Source<ProductId, Stock> for Database {
    type Error = DatabaseError;

    async fn load(&self, product: &ProductId) -> Result<Option<Stock>, DatabaseError> {
        self.stock(*product).await
    }

    async fn store(&self, product: &ProductId, stock: &Stock) -> Result<(), DatabaseError> {
        self.set_stock(*product, *stock).await
    }

    async fn delete(&self, product: &ProductId) -> Result<(), DatabaseError> {
        self.set_stock(*product, Stock { pieces: 0 }).await
    }
}
