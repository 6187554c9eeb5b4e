//! Where the service gets its pages: from the catalog, or straight from the database, so that the two
//! can be measured side by side. A service of your own needs the catalog alone.

use std::net::IpAddr;
use std::ops::AddAssign;
use std::sync::Arc;

use cachalot::patterns::Admission;
use cachalot::{Cached, Tier};
use serde::{Deserialize, Serialize, Serializer};

use crate::catalog::Catalog;
use crate::shop::database::QueryCount;
use crate::shop::{
    CategoryId, CategoryPrices, Database, DatabaseError, Listing, Price, ProductId, ProductPage, Sale,
    Session, Stock, UserId, UserPage, Views,
};

/// The shop, with or without a cache. A cheap clone.
#[derive(Clone, Debug)]
pub enum Pages {
    /// Every read is a query.
    Direct(Database),
    /// Reads go through the catalog.
    Cached(Arc<Catalog>),
}

/// A page, and where it came from.
#[derive(Debug)]
pub enum Page<T> {
    /// Just queried.
    Direct(T),
    /// Handed out by the catalog.
    Cached(Cached<T>),
}

impl<T> Page<T> {
    /// One word for people: the tier, or `database`.
    #[must_use]
    pub fn from(&self) -> &'static str {
        match self {
            Self::Direct(_) => "database",
            Self::Cached(page) => match page.tier() {
                Tier::Memory => "memory",
                Tier::Backend => "redis",
                Tier::Loader => "loaded",
                Tier::Pending => "pending",
            },
        }
    }
}

impl<T: Serialize> Serialize for Page<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Direct(page) => page.serialize(serializer),
            Self::Cached(page) => page.serialize(serializer),
        }
    }
}

/// What a process has counted since it started; or several, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// What reached the database.
    pub database: QueryCount,
    /// What the catalog's caches did; all 0 without them.
    pub cache: CacheCount,
    /// Views on their way to the database; all 0 without caches.
    pub views: ViewCount,
}

/// Views that the catalog has taken and the database has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewCount {
    /// Statements that wait, now.
    pub pending: u64,
    /// Counts that the journal brought back when the process started.
    pub recovered: u64,
}

/// How pages were served, and what came in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCount {
    /// From the memory of the process.
    pub memory: u64,
    /// From Redis.
    pub redis: u64,
    /// Past their TTL, while a refresh ran or because it failed.
    pub stale: u64,
    /// By what another caller was reading already.
    pub joined: u64,
    /// By a load of their own.
    pub loaded: u64,
    /// Not reads: invalidations heard from other processes.
    pub heard: u64,
    /// Not reads: times that one may have been missed, the first moments of a process included.
    pub gaps: u64,
}

impl CacheCount {
    /// All reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.memory + self.redis + self.stale + self.joined + self.loaded
    }
}

impl From<cachalot::Stats> for CacheCount {
    fn from(stats: cachalot::Stats) -> Self {
        Self {
            memory: stats.memory_hits,
            redis: stats.backend_hits,
            stale: stats.stale_served,
            joined: stats.coalesced,
            loaded: stats.loads + stats.load_failures,
            heard: stats.heard,
            gaps: stats.gaps,
        }
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.database.reads += other.database.reads;
        self.database.writes += other.database.writes;
        self.views.pending += other.views.pending;
        self.views.recovered += other.views.recovered;
        self.cache += other.cache;
    }
}

impl AddAssign for CacheCount {
    fn add_assign(&mut self, other: Self) {
        self.memory += other.memory;
        self.redis += other.redis;
        self.stale += other.stale;
        self.joined += other.joined;
        self.loaded += other.loaded;
        self.heard += other.heard;
        self.gaps += other.gaps;
    }
}

impl Pages {
    /// A product's page; `None` if there is no such product.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn product(&self, id: ProductId) -> anyhow::Result<Option<Page<ProductPage>>> {
        match self {
            Self::Direct(database) => Ok(database.product(id).await?.map(Page::Direct)),
            Self::Cached(catalog) => Ok(catalog.product(id).await?.map(Page::Cached)),
        }
    }

    /// A category's listing; `None` if there is no such category.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn listing(&self, id: CategoryId) -> anyhow::Result<Option<Page<Listing>>> {
        match self {
            Self::Direct(database) => Ok(database.listing(id).await?.map(Page::Direct)),
            Self::Cached(catalog) => Ok(catalog.listing(id).await?.map(Page::Cached)),
        }
    }

    /// A user's page; `None` if there is no such user.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user(&self, id: UserId) -> anyhow::Result<Option<Page<UserPage>>> {
        match self {
            Self::Direct(database) => Ok(database.user(id).await?.map(Page::Direct)),
            Self::Cached(catalog) => Ok(catalog.user(id).await?.map(Page::Cached)),
        }
    }

    /// How much of a product there is; `None` if there is no such product.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stock(&self, id: ProductId) -> anyhow::Result<Option<Page<Stock>>> {
        match self {
            Self::Direct(database) => Ok(database.stock(id).await?.map(Page::Direct)),
            Self::Cached(catalog) => Ok(catalog.stock(id).await?.map(Page::Cached)),
        }
    }

    /// Notes how much of a product there is; `None` if there is no such product.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_stock(&self, id: ProductId, stock: Stock) -> anyhow::Result<Option<Stock>> {
        match self {
            Self::Direct(database) => match database.set_stock(id, stock).await {
                Ok(()) => Ok(Some(stock)),
                Err(DatabaseError::NoProduct(_)) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Cached(catalog) => catalog.set_stock(id, stock).await,
        }
    }

    /// How often a product's page was looked at; `None` if nobody has.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn views(&self, id: ProductId) -> anyhow::Result<Option<Page<Views>>> {
        match self {
            Self::Direct(database) => Ok(database.views(id).await?.map(Page::Direct)),
            Self::Cached(catalog) => Ok(catalog.views(id).await?.map(Page::Cached)),
        }
    }

    /// Counts a view; `None` if there is no such product.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_view(&self, id: ProductId) -> anyhow::Result<Option<()>> {
        match self {
            Self::Direct(database) => match database.count_view(id).await {
                Ok(()) => Ok(Some(())),
                Err(DatabaseError::NoProduct(_)) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Cached(catalog) => catalog.count_view(id).await,
        }
    }

    /// Whose session it is; `None` if there is none of this name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn session(&self, id: String) -> anyhow::Result<Option<Page<Session>>> {
        match self {
            Self::Direct(database) => Ok(database.session(id).await?.map(Page::Direct)),
            Self::Cached(catalog) => Ok(catalog.session(&id).await?.map(Page::Cached)),
        }
    }

    /// Begins a session, and gives its name; `None` if there is no such user.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sign_in(&self, user: UserId) -> anyhow::Result<Option<String>> {
        match self {
            Self::Direct(database) => Ok(database.sign_in(user).await?),
            Self::Cached(catalog) => Ok(catalog.database().sign_in(user).await?),
        }
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sign_out(&self, id: String) -> anyhow::Result<()> {
        match self {
            Self::Direct(database) => Ok(database.sign_out(id).await?),
            Self::Cached(catalog) => catalog.sign_out(id).await,
        }
    }

    /// Orders a product; `None` if there is no such product or no such user.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn order(&self, user: UserId, product: ProductId, pieces: u32) -> anyhow::Result<Option<Sale>> {
        match self {
            Self::Direct(database) => Ok(database.order(user, product, pieces).await?),
            Self::Cached(catalog) => catalog.order(user, product, pieces).await,
        }
    }

    /// Whether `caller` may order now.
    pub async fn admit(&self, caller: IpAddr) -> Admission {
        match self {
            Self::Direct(_) => Admission::Allowed,
            Self::Cached(catalog) => catalog.admit(caller).await,
        }
    }

    /// Changes a price; `None` if there is no such product.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reprice(&self, id: ProductId, price_cents: u32) -> anyhow::Result<Option<Price>> {
        match self {
            Self::Direct(database) => Ok(database.reprice(id, price_cents).await?),
            Self::Cached(catalog) => catalog.reprice(id, price_cents).await,
        }
    }

    /// Makes all products of a category dearer; `None` if it has none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reprice_category(
        &self,
        id: CategoryId,
        by_cents: u32,
    ) -> anyhow::Result<Option<CategoryPrices>> {
        match self {
            Self::Direct(database) => Ok(database.reprice_category(id, by_cents).await?),
            Self::Cached(catalog) => catalog.reprice_category(id, by_cents).await,
        }
    }

    /// The counters of this process.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self {
            Self::Direct(database) => Stats { database: database.query_count(), ..Stats::default() },
            Self::Cached(catalog) => {
                let mut cache = CacheCount::default();
                for one in catalog.stats() {
                    cache += CacheCount::from(one);
                }
                let views = catalog.view_stats();
                let views = ViewCount { pending: views.depth as u64, recovered: views.recovered };
                Stats { database: catalog.database().query_count(), cache, views }
            }
        }
    }

    /// Ends what runs in the background.
    ///
    /// # Errors
    /// As [`Catalog::shutdown`].
    pub async fn shutdown(&self) -> anyhow::Result<()> {
        match self {
            Self::Direct(_) => Ok(()),
            Self::Cached(catalog) => catalog.shutdown().await,
        }
    }
}
