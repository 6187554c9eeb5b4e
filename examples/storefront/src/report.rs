//! What a run showed, as a table.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use indicatif::HumanCount;

use crate::args::CacheChoice;
use crate::load::{self, Crowd, NewPrice, Outcome};
use crate::ordering::{self, Ordering};
use crate::pages::{CacheCount, Stats};
use crate::repricing::{CategoryChange, Cut, OldPrices};
use crate::shop::seed::Size;
use crate::stocktaking::{self, Stocktaking};
use crate::viewing::{self, Viewing};

/// One side of the comparison.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What the callers experienced.
    pub load: Outcome,
    /// What the service counted meanwhile.
    pub during_load: Stats,
    /// What the crowd before a cold page experienced.
    pub crowd: Crowd,
    /// How many database queries that cost.
    pub crowd_queries: u64,
    /// When a changed price was seen.
    pub new_price: NewPrice,
    /// What was seen of a category's change of prices.
    pub category: CategoryChange,
    /// What counting the stock cost.
    pub stock: Stocktaking,
    /// What counting the views cost.
    pub views: Viewing,
    /// What ordering showed; `None` without Redis.
    pub ordering: Option<Ordering>,
    /// What became of a change of price when the bus was cut; `None` without a bus.
    pub cut: Option<Cut>,
}

/// Both sides; displays as a table.
#[derive(Clone, Debug)]
pub struct Report {
    /// How much the shop holds.
    pub size: Size,
    /// Whether two processes shared a Redis.
    pub redis: bool,
    /// Every read a query.
    pub without: Measured,
    /// The catalog in front.
    pub with: Measured,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.heading(f)?;
        writeln!(f, "{:<36}{:>15}{:>15}", "", "without cache", "with cache")?;
        self.load(f)?;
        self.tiers(f)?;
        self.crowd(f)?;
        self.new_price(f)?;
        self.category(f)?;
        self.stock(f)?;
        self.views(f)?;
        self.ordering(f)?;
        self.cut(f)
    }
}

impl Report {
    fn heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { categories, products, users, orders } = self.size;
        let (products, users, orders) = (count(products), count(users), count(orders));
        let service = if self.redis { "two processes that share a Redis" } else { "one process" };
        writeln!(
            f,
            "Shop: {products} products in {categories} categories, {users} users, {orders} orders (SQLite)"
        )?;
        writeln!(f, "Service: {service}, asked by {} callers over HTTP; caches start cold", load::CALLERS)?;
        writeln!(f)
    }

    fn load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faster = per_second(&self.with) / per_second(&self.without);
        let gain = format!("   {faster:.0} x");
        row(f, "requests per second", &gain, |side| count(per_second(side) as u64), self)?;
        row(f, "latency, median (p50)", "", |side| time(latency(side, 0.50)), self)?;
        row(f, "latency, slowest of 100 (p99)", "", |side| time(latency(side, 0.99)), self)?;
        row(f, "pages read", "", |side| count(side.load.reads), self)?;
        row(f, "prices changed meanwhile", "", |side| count(side.load.updates), self)?;
        row(f, "database queries for the pages", "", |side| count(side.during_load.database.reads), self)?;
        row(f, "database queries saved", "", |side| percent(saved(side), side.load.reads), self)
    }

    fn tiers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: fn(&CacheCount) -> u64| {
            move |side: &Measured| match side.during_load.cache {
                cache if cache.reads() == 0 => NONE.to_owned(),
                cache => percent(part(&cache), cache.reads()),
            }
        };
        row(f, "  served from memory", "", share(|cache| cache.memory), self)?;
        if self.redis {
            row(f, "  served from Redis", "", share(|cache| cache.redis), self)?;
        }
        if self.with.during_load.cache.stale > 0 {
            row(f, "  served stale while refreshed", "", share(|cache| cache.stale), self)?;
        }
        row(f, "  joined another caller's read", "", share(|cache| cache.joined), self)?;
        row(f, "  loaded from the database", "", share(|cache| cache.loaded), self)
    }

    fn crowd(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} callers at once, one cold page", count(self.with.crowd.callers))?;
        row(f, "  database queries", "", |side| count(side.crowd_queries), self)?;
        row(f, "  until the last has it", "", |side| time(side.crowd.elapsed), self)
    }

    fn new_price(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "a changed price is seen")?;
        row(f, "  where it was changed, after", "", |side| time(side.new_price.at_the_writer), self)?;
        if self.redis {
            let elsewhere = |side: &Measured| side.new_price.elsewhere.map_or(NONE.into(), time);
            row(f, "  by the other process, after", "", elsewhere, self)?;
        }
        Ok(())
    }

    fn category(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "all prices of a category change; with cache, one tag is removed")?;
        row(f, "  products in it", "", |side| count(side.category.products), self)?;
        row(f, "  its pages read meanwhile", "", |side| count(side.category.reads), self)?;
        // Anything else has failed the run.
        row(f, "  old prices where it was changed", "", |_| count(0_u64), self)?;
        if self.redis {
            let old = |side: &Measured| side.category.elsewhere.map_or(NONE.into(), |old| count(old.count));
            row(f, "  old prices by the other process", "", old, self)?;
            row(f, "    the last of them, after", "", |side| last(side.category.elsewhere), self)?;
        }
        Ok(())
    }

    fn stock(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "stock is counted {} times and read back; with cache, written through",
            stocktaking::TIMES
        )?;
        row(f, "  database queries to read it", "", |side| count(side.stock.queries), self)?;
        row(f, "  a write and its read", "", |side| time(side.stock.each), self)?;
        if self.redis {
            let elsewhere = |side: &Measured| side.stock.elsewhere.map_or(NONE.into(), time);
            row(f, "  seen by the other process, after", "", elsewhere, self)?;
        }
        Ok(())
    }

    fn views(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} views are counted; with cache, written behind", count(viewing::VIEWS))?;
        row(f, "  database statements for them", "", |side| count(side.views.statements), self)?;
        row(f, "  until all are acknowledged", "", |side| time(side.views.elapsed), self)
    }

    fn ordering(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(with) = &self.with.ordering else { return Ok(()) };
        let cell = |of: fn(&Ordering) -> String| {
            move |side: &Measured| side.ordering.as_ref().map_or(NONE.into(), of)
        };
        let (orders, place) = (ordering::ORDERS, with.place_before);
        writeln!(f, "{orders} orders make no. {place} of a category its bestseller, a leaderboard in Redis")?;
        row(f, "  an order", "", cell(|ordering| time(ordering.each)), self)?;
        row(
            f,
            "  listed by the other process, after",
            "",
            cell(|o| o.elsewhere.map_or(NONE.into(), time)),
            self,
        )?;
        writeln!(f, "{} more orders at once; a caller may order 60 times a minute", ordering::TRIED)?;
        row(f, "  let through", "", cell(|ordering| count(ordering.admitted)), self)?;
        row(
            f,
            "  told to wait (429), at most",
            "",
            cell(|ordering| format!("{} s", ordering.retry_after)),
            self,
        )
    }

    fn cut(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(with) = &self.with.cut else { return Ok(()) };
        let cell = |of: fn(&Cut) -> String| move |side: &Measured| side.cut.as_ref().map_or(NONE.into(), of);
        writeln!(f, "{} connections of the bus are cut, a price changes", with.connections)?;
        row(f, "  noticed by both processes, after", "", cell(|cut| time(cut.noticed)), self)?;
        row(f, "  old prices by the other process", "", cell(|cut| count(cut.old_prices.count)), self)?;
        row(f, "    the last of them, after", "", cell(|cut| last(Some(cut.old_prices))), self)?;
        writeln!(f, "\n{THE_BUS}")
    }
}

/// What a reader must know about the last rows.
const THE_BUS: &str = "\
Note: an update invalidates in Redis, then in the memory of the process that took it, then tells the other
process on a bus (Redis Pub/Sub), which may show the old price until it hears of it. A process that has lost
the bus notices, trusts nothing it has in memory, and asks Redis for each page once.";

const NONE: &str = "-";

fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    note: &str,
    cell: impl Fn(&Measured) -> String,
    report: &Report,
) -> fmt::Result {
    writeln!(f, "{name:<36}{:>15}{:>15}{note}", cell(&report.without), cell(&report.with))
}

/// What to type while the service stays up.
#[must_use]
pub fn curl_lines(nodes: &[SocketAddr], cache: &CacheChoice) -> String {
    let mut lines = String::from("The service is up; Ctrl-C stops it. Try, and look at x-page-from:\n\n");
    for node in nodes {
        lines += &format!("  curl -i http://{node}/products/1\n");
    }
    if let Some(node) = nodes.first() {
        lines += &format!("  curl -i http://{node}/categories/7\n");
        lines += &format!("  curl -i http://{node}/users/1\n");
        lines += &format!("  curl -X PUT http://{node}/products/1/price \\\n");
        lines += "       -H 'content-type: application/json' -d '{\"price_cents\": 1999}'\n";
        lines += &format!("  curl -X PUT http://{node}/products/1/stock \\\n");
        lines += "       -H 'content-type: application/json' -d '{\"pieces\": 12}'\n";
        lines += &format!(
            "  curl -X POST http://{node}/products/1/views; curl -i http://{node}/products/1/views\n"
        );
        lines += &format!("  curl -i -X POST http://{node}/products/1/orders \\\n");
        lines += "       -H 'content-type: application/json' -d '{\"user\": 1, \"pieces\": 3}'\n";
        lines += &format!("  curl http://{node}/stats\n");
    }
    if let CacheChoice::Redis(url) = cache {
        lines += &format!("  redis-cli -u {url} --scan\n");
    }
    lines
}

fn per_second(side: &Measured) -> f64 {
    (side.load.reads + side.load.updates) as f64 / side.load.elapsed.as_secs_f64()
}

fn latency(side: &Measured, quantile: f64) -> Duration {
    Duration::from_micros(side.load.latency_us.value_at_quantile(quantile))
}

fn saved(side: &Measured) -> u64 {
    side.load.reads.saturating_sub(side.during_load.database.reads)
}

fn last(old: Option<OldPrices>) -> String {
    old.and_then(|old| old.last).map_or(NONE.into(), time)
}

fn count(n: impl Into<u64>) -> String {
    HumanCount(n.into()).to_string()
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn time(took: Duration) -> String {
    match took.as_micros() {
        us @ 0..1_000 => format!("{us} us"),
        us @ 1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        us => format!("{:.1} s", us as f64 / 1e6),
    }
}
