//! What sells best in a category: a leaderboard in Redis says which products, the database what there is to say of them.
//!
//! The database alone would add up all orders of all products of a category for twenty lines. The leaderboard knows which
//! twenty, and an order costs it one step; so a listing is twenty rows. It is filled by whoever finds it empty, and ends a
//! minute later, so that what it has missed (Redis was away, a process died between the database and Redis) is not missed
//! for long. What a line shows, the number of pieces included, is always the database's.
//!
//! Pieces only add up. So nobody sets a score, everybody raises it to what the database said: whoever comes late with an
//! older number changes nothing.

use async_trait::async_trait;
use cachalot::patterns::{Leaderboard, RedisPatterns};
use cachalot::units::minutes;
use cachalot::{CacheKey, Namespace, ReadOnly, Source};

use crate::shop::{CategoryId, Database, DatabaseError, Listing, ProductId, Sale};

/// How many lines a listing has.
const LINES: usize = 20;

/// Listings of what sells best. A cheap clone.
#[derive(Clone, Debug)]
pub struct Bestsellers {
    database: Database,
    leaderboards: Option<Leaderboards>,
}

#[derive(Clone, Debug)]
struct Leaderboards {
    patterns: RedisPatterns,
    namespace: Namespace,
}

impl Bestsellers {
    /// Of `database`, with leaderboards in a Redis if there is one.
    ///
    /// # Errors
    /// None; the name of the leaderboards is acceptable.
    pub fn new(database: Database, patterns: Option<RedisPatterns>) -> cachalot::Result<Self> {
        // A namespace that no cache has.
        let namespace = Namespace::new("sold")?;
        let leaderboards = patterns.map(|patterns| Leaderboards { patterns, namespace });
        Ok(Self { database, leaderboards })
    }

    /// A category's listing; `None` if there is no such category.
    ///
    /// # Errors
    /// When the database does not answer. Without Redis it is asked for everything.
    pub async fn listing(&self, category: CategoryId) -> Result<Option<Listing>, DatabaseError> {
        let Some(leaderboard) = self.leaderboard(category) else {
            return self.database.listing(category).await;
        };
        if let Ok(top) = leaderboard.top(LINES).await
            && !top.is_empty()
        {
            let products = top.into_iter().map(|ranked| ranked.member.0).collect();
            return self.database.listing_of(category, products).await;
        }
        let Some((listing, sold)) = self.database.listing_and_sales(category).await? else {
            return Ok(None);
        };
        let sold: Vec<_> = sold.into_iter().map(|(product, units)| (Seller(product), units as f64)).collect();
        // If Redis is away, the next one tries.
        let _ = leaderboard.raise(sold.iter().map(|(seller, units)| (seller, *units))).await;
        Ok(Some(listing))
    }

    /// Tells the leaderboard of a sale. One that nobody has filled stays empty.
    pub async fn sold(&self, sale: &Sale) {
        if let Some(leaderboard) = self.leaderboard(sale.category) {
            // If Redis is away, the leaderboard is late until it ends.
            let _ = leaderboard.raise_listed(&Seller(sale.product), sale.units_sold as f64).await;
        }
    }

    fn leaderboard(&self, category: CategoryId) -> Option<Leaderboard<Seller>> {
        let Leaderboards { patterns, namespace } = self.leaderboards.as_ref()?;
        Some(patterns.leaderboard(namespace, &category).ttl(minutes(1)))
    }
}

/// A product as a member of a leaderboard. Of equals Redis lists the greater member first and the shop the lesser number,
/// so members count down; with leading zeros, since they are compared as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seller(ProductId);

impl CacheKey for Seller {
    fn write_key(&self, out: &mut Vec<u8>) {
        let text = format!("{:010}", u32::MAX - self.0.0);
        text.as_str().write_key(out);
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        Some(Self(ProductId(u32::MAX - u32::read_key(bytes)?)))
    }
}

#[async_trait]
impl Source<CategoryId, Listing> for Bestsellers {
    type Error = ReadOnly<DatabaseError>;

    async fn load(&self, id: &CategoryId) -> Result<Option<Listing>, Self::Error> {
        self.listing(*id).await.map_err(ReadOnly::Load)
    }

    async fn store(&self, _: &CategoryId, _: &Listing) -> Result<(), Self::Error> {
        Err(ReadOnly::Refused)
    }

    async fn delete(&self, _: &CategoryId) -> Result<(), Self::Error> {
        Err(ReadOnly::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lesser_number_is_the_greater_member_and_comes_back() {
        let member = |id| Seller(ProductId(id)).to_key_bytes();
        for (lesser, greater) in [(0, 1), (9, 10), (99_999, 100_000), (1, u32::MAX)] {
            assert!(member(lesser) > member(greater), "{lesser} {greater}");
        }
        for id in [0, 7, u32::MAX] {
            assert_eq!(Seller::read_key(&member(id)), Some(Seller(ProductId(id))));
        }
    }
}
