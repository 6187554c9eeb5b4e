//! The shop itself: what it sells, and the database it keeps that in. Knows nothing of caches.

pub mod database;
pub mod model;
pub mod orders;
pub mod queries;
pub mod seed;
pub mod sessions;
pub mod views;

pub use database::{Database, DatabaseError};
pub use model::{
    Bestseller, CategoryId, CategoryPrices, Listing, Price, ProductId, ProductPage, Sale, Session, Stock,
    UserId, UserPage, Views,
};
pub use views::Counted;
