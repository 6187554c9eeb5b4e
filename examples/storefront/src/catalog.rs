//! The cached shop: the part to copy.
//!
//! One cache per kind of page. Products are kept by hand: read with a query as the loader, which also says by a tag
//! what the page belongs to; written to the database, and then the pages are removed that this made wrong: one by its
//! key, or all that have a tag. Elsewhere the cache knows the database ([`sources`](crate::sources)): users are read
//! through, stock is written through, views are counted behind, sessions live on while they are used, and the listings
//! that are read most are loaded anew before anybody has to wait for them: pages over a leaderboard, if there is a Redis
//! ([`bestsellers`](crate::bestsellers)), which also counts how much a caller orders.

use std::hash::Hash;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cachalot::patterns::{Admission, RateLimit};
use cachalot::units::{hours, millis, minutes, seconds};
use cachalot::{
    Cache, CacheBuilder, CacheKey, Cached, FileJournal, Fsync, LoadError, Memory, Namespace, ReadThrough,
    Redis, RedisBackend, RedisBus, RefreshAhead, Sliding, Stats, Ttl, WriteBehind, WriteBehindBuilder,
    WriteBehindStats, WriteError, WriteThrough,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bestsellers::Bestsellers;
use crate::shop::{
    CategoryId, CategoryPrices, Database, DatabaseError, Listing, Price, ProductId, ProductPage, Sale,
    Session, Stock, UserId, UserPage, Views,
};

/// The shop's pages, cached. A cheap clone: all clones share the caches.
#[derive(Clone, Debug)]
pub struct Catalog {
    database: Database,
    products: Cache<ProductId, ProductPage>,
    listings: RefreshAhead<CategoryId, Listing, Bestsellers>,
    bestsellers: Bestsellers,
    orders: Option<RateLimit>,
    sessions: Sliding<String, Session, Database>,
    users: ReadThrough<UserId, UserPage, Database>,
    stock: WriteThrough<ProductId, Stock, Database>,
    views: WriteBehind<ProductId, Views, Database>,
}

/// What several processes have in common: pages, a bus on which they tell each other what is no longer true, and how much
/// a caller may order.
#[derive(Clone, Debug)]
pub struct Shared {
    pages: RedisBackend,
    bus: Arc<RedisBus>,
    orders: RateLimit,
}

impl Shared {
    /// All of it in the Redis at `url`. A caller may order and sign in sixty times in any minute.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn connect(url: &str) -> cachalot::Result<Self> {
        let bus = Redis::builder(url).bus().pub_sub()?;
        let pages = Redis::connect(url).await?;
        let orders = pages.patterns().rate_limit(&Namespace::new("callers")?, 60, minutes(1))?;
        Ok(Self { pages, bus: Arc::new(bus), orders })
    }

    /// With another limit for each caller: so many orders in any `window`.
    ///
    /// # Errors
    /// When there is no such limit.
    pub fn order_limit(mut self, limit: u32, window: Duration) -> cachalot::Result<Self> {
        self.orders = self.pages.patterns().rate_limit(&Namespace::new("callers")?, limit, window)?;
        Ok(self)
    }
}

impl Catalog {
    /// Opens the caches: in memory, and in what is shared behind it if there is something. Within a runtime.
    ///
    /// # Errors
    /// When a setting contradicts another.
    pub fn new(database: Database, shared: Option<Shared>) -> cachalot::Result<Self> {
        let users = open("users", 10_000, Ttl::hours(1), shared.as_ref())?;
        let stock = open("stock", 20_000, Ttl::minutes(5), shared.as_ref())?;
        let listings = open("listings", 1_000, Ttl::minutes(5), shared.as_ref())?;
        // Half an hour after the last read, and asked of the database again every twelve.
        let sessions = Cache::builder("sessions").memory(Memory::entries(20_000));
        let sessions = over(sessions.ttl(minutes(30)).max_age(hours(12)), shared.as_ref())?;
        let views = open("views", 20_000, Ttl::minutes(5), shared.as_ref())?;
        let bestsellers =
            Bestsellers::new(database.clone(), shared.as_ref().map(|shared| shared.pages.patterns()))?;
        Ok(Self {
            bestsellers: bestsellers.clone(),
            orders: shared.as_ref().map(|shared| shared.orders.clone()),
            views: counting(views, database.clone()).build()?,
            products: open("products", 20_000, Ttl::minutes(5), shared.as_ref())?,
            listings: RefreshAhead::builder(listings, bestsellers).top(10).every(seconds(10)).build()?,
            sessions: Sliding::new(sessions, database.clone())?,
            users: ReadThrough::new(users, database.clone()),
            stock: WriteThrough::new(stock, database.clone()),
            database,
        })
    }

    /// Keeps the views that the database does not have yet in files in `folder`, which one process at a time may have:
    /// what is acknowledged survives the process however it ends, and is counted when the folder is opened again.
    /// Those of the last 10 ms do not survive the machine.
    ///
    /// # Errors
    /// When another process has the folder, or it cannot be read.
    pub async fn journaled(mut self, folder: &Path) -> cachalot::Result<Self> {
        let journal = FileJournal::at(folder).fsync(Fsync::Every(millis(10)));
        let counting = counting(self.views.cache().clone(), self.database.clone());
        self.views = counting.journal(journal).open().await?;
        Ok(self)
    }

    /// The database behind it.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A product's page; `None` if there is no such product.
    ///
    /// # Errors
    /// When the page is not cached and the database does not answer.
    pub async fn product(&self, id: ProductId) -> Result<Option<Cached<ProductPage>>, LoadError> {
        self.products
            .get_or_load_opt(&id, |load| {
                let database = self.database.clone();
                async move {
                    let page = database.product(*load.key()).await?;
                    if let Some(page) = &page {
                        load.tag(category(page.category)); // Nobody knows it before the row is read.
                    }
                    Ok(page)
                }
            })
            .await
    }

    /// A category's bestsellers; `None` if there is no such category.
    ///
    /// # Errors
    /// When the listing is not cached and the database does not answer.
    pub async fn listing(&self, id: CategoryId) -> Result<Option<Cached<Listing>>, LoadError> {
        self.listings.get(&id).await
    }

    /// Whose session it is; `None` if there is none of this name.
    ///
    /// # Errors
    /// When it is not cached and the database does not answer.
    pub async fn session(&self, id: &String) -> Result<Option<Cached<Session>>, LoadError> {
        self.sessions.get(id).await
    }

    /// Ends a session. When this returns, no read of this process finds it any more.
    ///
    /// # Errors
    /// When the database does not answer.
    ///
    /// # Dropping the future
    /// It is ended all the same.
    pub async fn sign_out(&self, id: String) -> anyhow::Result<()> {
        let catalog = self.clone();
        tokio::spawn(async move {
            catalog.database.sign_out(id.clone()).await?;
            catalog.sessions.cache().remove(&id).await?;
            Ok(())
        })
        .await?
    }

    /// A user's page; `None` if there is no such user.
    ///
    /// # Errors
    /// When the page is not cached and the database does not answer.
    pub async fn user(&self, id: UserId) -> Result<Option<Cached<UserPage>>, LoadError> {
        self.users.get(&id).await
    }

    /// How much of a product there is; `None` if there is no such product.
    ///
    /// # Errors
    /// When that is not cached and the database does not answer.
    pub async fn stock(&self, id: ProductId) -> Result<Option<Cached<Stock>>, LoadError> {
        self.stock.get(&id).await
    }

    /// Notes how much of a product there is: in the database and on the way in the cache, so that the next read is
    /// a hit. A process that dies meanwhile leaves no old number behind. `None` if there is no such product.
    ///
    /// # Errors
    /// When the database does not answer.
    ///
    /// # Dropping the future
    /// The write goes on.
    pub async fn set_stock(&self, id: ProductId, stock: Stock) -> anyhow::Result<Option<Stock>> {
        match self.stock.put(id, stock).await {
            Ok(_) => Ok(Some(stock)),
            Err(WriteError::Source(DatabaseError::NoProduct(_))) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How often a product's page was looked at, what the database does not have yet included; `None` if nobody has.
    ///
    /// # Errors
    /// When that is not cached and the database does not answer.
    pub async fn views(&self, id: ProductId) -> Result<Option<Cached<Views>>, LoadError> {
        self.views.get(&id).await
    }

    /// Counts a view. The database gets it within a second, together with others. `None` if there is no such product.
    ///
    /// # Errors
    /// When too many wait already, since the database does not answer.
    ///
    /// # Dropping the future
    /// It may still be counted.
    pub async fn count_view(&self, id: ProductId) -> anyhow::Result<Option<()>> {
        if self.product(id).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.views.put(id, Views { views: 1 }).await?))
    }

    /// Orders so many pieces of a product: in the database, then in the leaderboard of its category, then by removing the
    /// three pages that this made wrong. When this returns, no read of this process shows an old number any more. `None` if
    /// there is no such product or no such user.
    ///
    /// # Errors
    /// When the database does not answer.
    ///
    /// # Dropping the future
    /// The order goes on.
    pub async fn order(&self, user: UserId, product: ProductId, pieces: u32) -> anyhow::Result<Option<Sale>> {
        let catalog = self.clone();
        tokio::spawn(async move {
            let Some(sale) = catalog.database.order(user, product, pieces).await? else {
                return Ok(None);
            };
            // Before the listing is removed: whoever loads it next asks the leaderboard.
            catalog.bestsellers.sold(&sale).await;
            tokio::try_join!(
                catalog.products.remove(&product),
                catalog.listing_cache().remove(&sale.category),
                catalog.users.cache().remove(&user)
            )?;
            Ok(Some(sale))
        })
        .await?
    }

    /// Whether `caller` may order now, or when. Without Redis there is no limit; while Redis is away neither: a shop that
    /// sells too fast for a while is better off than one that does not sell.
    pub async fn admit(&self, caller: IpAddr) -> Admission {
        match &self.orders {
            Some(orders) => orders.check(&caller.to_string()).await.unwrap_or(Admission::Allowed),
            None => Admission::Allowed,
        }
    }

    /// Changes a price: in the database, then, by removing them, on the two pages that show it. When this
    /// returns, no read of this process shows the old price any more. `None` if there is no such product.
    ///
    /// # Errors
    /// When the database does not answer.
    ///
    /// # Dropping the future
    /// The update goes on. A caller who hangs up between the two steps must not leave the old price cached.
    pub async fn reprice(&self, id: ProductId, price_cents: u32) -> anyhow::Result<Option<Price>> {
        let catalog = self.clone();
        tokio::spawn(async move { catalog.reprice_and_remove(id, price_cents).await }).await?
    }

    async fn reprice_and_remove(&self, id: ProductId, price_cents: u32) -> anyhow::Result<Option<Price>> {
        // Committed first: removed before, the old price could be loaded again in between.
        let Some(price) = self.database.reprice(id, price_cents).await? else {
            return Ok(None);
        };
        // Each says `Removed`; or `Deferred` while Redis is away: the cache then tries until Redis has it.
        tokio::try_join!(self.products.remove(&price.product), self.listing_cache().remove(&price.category))?;
        Ok(Some(price))
    }

    /// Makes all products of a category dearer: in the database, then by removing their tag, which is one step
    /// however many of them are cached. When this returns, no read of this process shows an old price any more;
    /// another process shows none from when it hears of it. `None` if the category has no products.
    ///
    /// # Errors
    /// When the database does not answer.
    ///
    /// # Dropping the future
    /// The update goes on, as that of [`reprice`](Self::reprice).
    pub async fn reprice_category(
        &self,
        id: CategoryId,
        by_cents: u32,
    ) -> anyhow::Result<Option<CategoryPrices>> {
        let catalog = self.clone();
        tokio::spawn(async move {
            let changed = catalog.database.reprice_category(id, by_cents).await?;
            if changed.is_some() {
                tokio::try_join!(
                    catalog.products.remove_tag(category(id)),
                    catalog.listing_cache().remove(&id)
                )?;
            }
            Ok(changed)
        })
        .await?
    }

    /// Waits for what runs in the background: views that the database does not have yet, loads, and removals that
    /// Redis has not taken.
    ///
    /// # Errors
    /// When that takes longer than five seconds, with what is left.
    pub async fn shutdown(&self) -> anyhow::Result<()> {
        let within = seconds(5);
        self.views.shutdown(within).await.context("counting views")?;
        tokio::try_join!(
            self.products.shutdown(within),
            self.listing_cache().shutdown(within),
            self.sessions.cache().shutdown(within),
            self.users.cache().shutdown(within),
            self.stock.cache().shutdown(within),
            self.views.cache().shutdown(within)
        )?;
        Ok(())
    }

    /// What the caches have counted, one by one.
    #[must_use]
    pub fn stats(&self) -> [Stats; 6] {
        let (users, stock, views) = (self.users.cache(), self.stock.cache(), self.views.cache());
        let (listings, sessions) = (self.listing_cache(), self.sessions.cache());
        let products = self.products.stats();
        [products, listings.stats(), users.stats(), stock.stats(), views.stats(), sessions.stats()]
    }

    fn listing_cache(&self) -> &Cache<CategoryId, Listing> {
        self.listings.read_through().cache()
    }

    /// What has become of the views.
    #[must_use]
    pub fn view_stats(&self) -> WriteBehindStats {
        self.views.stats()
    }
}

/// Views add up; those of a second are one statement for each product.
fn counting(
    cache: Cache<ProductId, Views>,
    database: Database,
) -> WriteBehindBuilder<ProductId, Views, Database> {
    let add = |one: &Views, other: &Views| Views { views: one.views + other.views };
    WriteBehind::builder(cache, database).flush_every(seconds(1)).merge(add)
}

/// The tag of the products of a category.
fn category(id: CategoryId) -> String {
    format!("category:{id}")
}

/// What the caches have in common.
fn open<K, V>(
    name: &str,
    pages_in_memory: u64,
    ttl: Ttl,
    shared: Option<&Shared>,
) -> cachalot::Result<Cache<K, V>>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let cache = Cache::builder(name)
        .memory(Memory::entries(pages_in_memory))
        .ttl(ttl.jitter(0.10))
        .negative_ttl(Ttl::seconds(10)) // Crawlers ask for what is gone, again and again.
        .stale_while_revalidate(minutes(1))
        .stale_if_error(hours(1));
    over(cache, shared)
}

/// In what is shared too, if there is something.
fn over<K, V>(cache: CacheBuilder<K, V>, shared: Option<&Shared>) -> cachalot::Result<Cache<K, V>>
where
    K: CacheKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    match shared {
        // Without a bus, `memory_ttl` would bound how long this process may show what another has changed.
        Some(shared) => cache.backend(shared.pages.clone()).bus(shared.bus.clone()).build(),
        None => cache.build(),
    }
}

impl CacheKey for ProductId {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        u32::read_key(bytes).map(Self)
    }
}

impl CacheKey for CategoryId {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        u32::read_key(bytes).map(Self)
    }
}

impl CacheKey for UserId {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.0.write_key(out);
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        u32::read_key(bytes).map(Self)
    }
}
