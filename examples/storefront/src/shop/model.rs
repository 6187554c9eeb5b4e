//! What the pages of the shop show.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Names a product. The generator numbers products by popularity: 1 is asked for most.
    ProductId
}
id! {
    /// Names a category.
    CategoryId
}
id! {
    /// Names a user.
    UserId
}

/// A product and how it sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPage {
    /// The product.
    pub id: ProductId,
    /// Its name.
    pub name: String,
    /// What the shop says of it.
    pub description: String,
    /// Today's price, in cents.
    pub price_cents: u32,
    /// The category that lists it.
    pub category: CategoryId,
    /// That category's name.
    pub category_name: String,
    /// Orders that contain it.
    pub orders: u64,
    /// Pieces sold.
    pub units_sold: u64,
    /// What those pieces brought in, in cents, at the prices of their day.
    pub revenue_cents: u64,
    /// Users who bought it at least once.
    pub buyers: u64,
    /// The last order that contains it, in Unix seconds; `None` if it never sold.
    pub last_ordered_at: Option<i64>,
}

/// A category with the products that sold best in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The category.
    pub id: CategoryId,
    /// Its name.
    pub name: String,
    /// At most 20, best first.
    pub bestsellers: Vec<Bestseller>,
}

/// One line of a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bestseller {
    /// The product.
    pub id: ProductId,
    /// Its name.
    pub name: String,
    /// Today's price, in cents.
    pub price_cents: u32,
    /// Pieces sold.
    pub units_sold: u64,
    /// Users who bought it at least once.
    pub buyers: u64,
}

/// A user and what they ordered so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPage {
    /// The user.
    pub id: UserId,
    /// Full name.
    pub name: String,
    /// Address for mail.
    pub email: String,
    /// Orders placed.
    pub orders: u64,
    /// What they cost, in cents.
    pub spent_cents: u64,
    /// The last of them, in Unix seconds; `None` before the first order.
    pub last_ordered_at: Option<i64>,
}

/// Who is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The user.
    pub user: UserId,
    /// Full name.
    pub name: String,
}

/// How much of a product is there to be sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Pieces.
    pub pieces: u32,
}

/// How often a product's page was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Views {
    /// Times.
    pub views: u64,
}

/// What a change of the prices of a category answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryPrices {
    /// The category.
    pub category: CategoryId,
    /// How many products it has, all of them with a new price.
    pub products: u64,
}

/// What an order answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// The product.
    pub product: ProductId,
    /// The category that lists it.
    pub category: CategoryId,
    /// Pieces sold in all, this order included.
    pub units_sold: u64,
}

/// What a change of price answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The product.
    pub product: ProductId,
    /// The category whose listing shows the price too.
    pub category: CategoryId,
    /// The price from now on, in cents.
    pub price_cents: u32,
}
