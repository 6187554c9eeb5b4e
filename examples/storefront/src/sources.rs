//! The database as what strategies read and write through: a [`Source`] for each kind of value that they handle.

use async_trait::async_trait;
use cachalot::{ReadOnly, Source, Write};

use crate::shop::{Counted, Database, DatabaseError, ProductId, Session, Stock, UserId, UserPage, Views};

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

/// Sessions, which begin and end by other ways than a cache's.
#[async_trait]
impl Source<String, Session> for Database {
    type Error = ReadOnly<DatabaseError>;

    async fn load(&self, id: &String) -> Result<Option<Session>, Self::Error> {
        self.session(id.clone()).await.map_err(ReadOnly::Load)
    }

    async fn store(&self, _: &String, _: &Session) -> Result<(), Self::Error> {
        Err(ReadOnly::Refused)
    }

    async fn delete(&self, _: &String) -> Result<(), Self::Error> {
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

/// Views: what is written are those since the last write, and the numbers of these keep a crash from counting twice.
#[async_trait]
impl Source<ProductId, Views> for Database {
    type Error = DatabaseError;

    async fn load(&self, product: &ProductId) -> Result<Option<Views>, DatabaseError> {
        self.views(*product).await
    }

    async fn apply(&self, writes: &[Write<'_, ProductId, Views>]) -> Result<(), DatabaseError> {
        let counted = writes.iter().map(|write| {
            let Views { views } = *write.value?;
            Some(Counted { product: *write.key, views, writer: write.writer, sequence: write.sequence })
        });
        self.add_views(counted.collect::<Option<_>>().ok_or(DatabaseError::Counted)?).await
    }

    async fn store(&self, _: &ProductId, _: &Views) -> Result<(), DatabaseError> {
        Err(DatabaseError::Counted)
    }

    async fn delete(&self, _: &ProductId) -> Result<(), DatabaseError> {
        Err(DatabaseError::Counted)
    }
}
