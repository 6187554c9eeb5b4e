//! storefront
pub mod shop;
pub mod zipf;
