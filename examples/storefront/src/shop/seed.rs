//! Makes the shop's database: rows from a seeded generator, and a file that is whole or not there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags, Transaction, params};

use super::{CategoryId, ProductId, UserId};
use crate::zipf::Zipf;

/// Marks a file as ours ("shop"), in SQLite's header.
const APPLICATION_ID: i32 = 0x7368_6f70;
/// Counts the generators; a file of an earlier one is made anew.
const GENERATOR: i32 = 4;
pub(super) const SEED: u64 = 2026;

/// How skewed sales are: the exponent with which orders favour popular products.
const SALES_SKEW: f64 = 0.8;
const FIRST_ORDER_AT: i64 = 1_735_689_600; // 2025-01-01
const SECONDS_OF_SALES: i64 = 365 * 86_400;

const SCHEMA: &str = "
    CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE products (
        id INTEGER PRIMARY KEY,
        category_id INTEGER NOT NULL REFERENCES categories,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        price_cents INTEGER NOT NULL
    );
    CREATE TABLE stock (product_id INTEGER PRIMARY KEY REFERENCES products, pieces INTEGER NOT NULL);
    CREATE TABLE views (
        product_id INTEGER NOT NULL REFERENCES products,
        writer BLOB NOT NULL, -- who counted
        sequence INTEGER NOT NULL, -- the last of its counts that is in here
        views INTEGER NOT NULL,
        PRIMARY KEY (product_id, writer)
    ) WITHOUT ROWID;
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL);
    CREATE TABLE sessions (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users) WITHOUT ROWID;
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users,
        ordered_at INTEGER NOT NULL -- Unix seconds
    );
    CREATE TABLE order_lines (
        order_id INTEGER NOT NULL REFERENCES orders,
        product_id INTEGER NOT NULL REFERENCES products,
        quantity INTEGER NOT NULL,
        price_cents INTEGER NOT NULL, -- of one piece, on that day
        PRIMARY KEY (order_id, product_id)
    ) WITHOUT ROWID;";

/// Built after the rows are in: faster than keeping them up to date row by row.
const INDEXES: &str = "
    CREATE INDEX products_by_category ON products (category_id);
    CREATE INDEX orders_by_user ON orders (user_id);
    CREATE INDEX order_lines_by_product ON order_lines (product_id);
    ANALYZE;";

/// How much a shop holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Categories, numbered from 1.
    pub categories: u32,
    /// Products, numbered from 1, most popular first.
    pub products: u32,
    /// Users, numbered from 1.
    pub users: u32,
    /// Orders of one to four products each.
    pub orders: u32,
}

impl Size {
    /// The shop of the demo.
    pub const FULL: Self = Self { categories: 40, products: 50_000, users: 20_000, orders: 200_000 };
    /// The same shop on a shelf, for tests.
    pub const SMALL: Self = Self { categories: 8, products: 400, users: 100, orders: 1_000 };
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file exists and was not made here; it is left as it is.
    #[error("{0} is not a database of this shop; name another file")]
    Foreign(PathBuf),
    /// A file could not be written, locked or renamed.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// SQLite refused.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Makes the database if there is none, and says how much it holds. `progress` hears the number of orders
/// written so far.
///
/// The rows go to a file beside `path` that gets its name only when it is complete, so a run that was
/// killed half-way leaves nothing that a later run could take for a shop. Two runs at once make one
/// file: the second waits for the first.
///
/// # Errors
/// When `path` holds something else, or the disk refuses. Blocks for seconds the first time.
pub fn prepare(path: &Path, size: Size, progress: impl Fn(u32)) -> Result<Size, SeedError> {
    let file_error = |error| SeedError::File(path.to_owned(), error);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(file_error)?;
    }
    let lock = File::create(beside(path, "lock")).map_err(file_error)?;
    lock.lock().map_err(file_error)?;
    match inspect(path)? {
        Found::Whole(found) => return Ok(found),
        Found::Foreign => return Err(SeedError::Foreign(path.to_owned())),
        Found::Outdated | Found::Nothing => {}
    }
    let partial = beside(path, "partial");
    for leftover in [&partial, path, &beside(path, "wal"), &beside(path, "shm")] {
        remove_if_there(leftover).map_err(file_error)?;
    }
    create(&partial, size, progress)?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(file_error)?;
    fs::rename(&partial, path).map_err(file_error)?;
    Ok(size)
}

enum Found {
    Whole(Size),
    Outdated,
    Foreign,
    Nothing,
}

fn inspect(path: &Path) -> Result<Found, SeedError> {
    if !path.exists() {
        return Ok(Found::Nothing);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    Ok(match (pragma("application_id"), pragma("user_version")) {
        (Ok(APPLICATION_ID), Ok(GENERATOR)) => Found::Whole(measure(&connection)?),
        (Ok(APPLICATION_ID), Ok(_)) => Found::Outdated,
        _ => Found::Foreign,
    })
}

fn measure(connection: &Connection) -> rusqlite::Result<Size> {
    let count = |table| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    Ok(Size {
        categories: count("categories")?,
        products: count("products")?,
        users: count("users")?,
        orders: count("orders")?,
    })
}

fn create(path: &Path, size: Size, progress: impl Fn(u32)) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    // Nobody reads this file before it is complete, so it needs no journal.
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    fill(&transaction, size, progress)?;
    transaction.execute_batch(INDEXES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", GENERATOR)?;
    transaction.commit()
}

fn fill(transaction: &Transaction<'_>, size: Size, progress: impl Fn(u32)) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare("INSERT INTO categories VALUES (?, ?)")?;
    for category in categories(size) {
        insert.execute(params![category.id.0, category.name])?;
    }
    let mut insert = transaction.prepare("INSERT INTO products VALUES (?, ?, ?, ?, ?)")?;
    let mut insert_stock = transaction.prepare("INSERT INTO stock VALUES (?, ?)")?;
    for row in products(SEED, size) {
        insert.execute(params![row.id.0, row.category.0, row.name, row.description, row.price_cents])?;
        insert_stock.execute(params![row.id.0, pieces(row.id.0)])?;
    }
    let mut insert = transaction.prepare("INSERT INTO users VALUES (?, ?, ?)")?;
    for row in users(SEED, size) {
        insert.execute(params![row.id.0, row.name, row.email])?;
    }
    let mut insert = transaction.prepare("INSERT INTO orders VALUES (?, ?, ?)")?;
    let mut insert_line = transaction.prepare("INSERT INTO order_lines VALUES (?, ?, ?, ?)")?;
    for row in orders(SEED, size) {
        insert.execute(params![row.id, row.user.0, row.ordered_at])?;
        for line in &row.lines {
            insert_line.execute(params![row.id, line.product.0, line.quantity, line.price_cents])?;
        }
        if row.id % 1_000 == 0 {
            progress(row.id);
        }
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
struct CategoryRow {
    id: CategoryId,
    name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProductRow {
    pub(super) id: ProductId,
    pub(super) category: CategoryId,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) price_cents: u32,
}

#[derive(Clone, Debug, PartialEq)]
struct UserRow {
    id: UserId,
    name: String,
    email: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct OrderRow {
    pub(super) id: u32,
    pub(super) user: UserId,
    pub(super) ordered_at: i64,
    pub(super) lines: Vec<LineRow>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct LineRow {
    pub(super) product: ProductId,
    pub(super) quantity: u32,
    pub(super) price_cents: u32,
}

fn categories(size: Size) -> impl Iterator<Item = CategoryRow> {
    (1..=size.categories).map(|id| {
        let (material, thing) = speciality(CategoryId(id));
        CategoryRow { id: CategoryId(id), name: format!("{material} {thing}s") }
    })
}

pub(super) fn products(seed: u64, size: Size) -> impl Iterator<Item = ProductRow> {
    let mut rng = Rng::with_seed(seed ^ 1);
    (1..=size.products).map(move |id| {
        let category = CategoryId(rng.u32(1..=size.categories));
        let (material, thing) = speciality(category);
        let (colour, material) = (pick(&mut rng, COLOURS), material.to_lowercase());
        ProductRow {
            id: ProductId(id),
            category,
            name: format!("{colour} {material} {thing} no. {id}"),
            description: description(&mut rng, &format!("{} {thing} of {material}", colour.to_lowercase())),
            price_cents: list_price(id),
        }
    })
}

/// What a category is about, like ("Oak", "chair").
fn speciality(category: CategoryId) -> (&'static str, &'static str) {
    let n = category.0 as usize;
    (MATERIALS[n % MATERIALS.len()], THINGS[n / MATERIALS.len() % THINGS.len()])
}

fn users(seed: u64, size: Size) -> impl Iterator<Item = UserRow> {
    let mut rng = Rng::with_seed(seed ^ 2);
    (1..=size.users).map(move |id| {
        let (first, last) = (pick(&mut rng, FIRST_NAMES), pick(&mut rng, LAST_NAMES));
        UserRow {
            id: UserId(id),
            name: format!("{first} {last}"),
            email: format!("{}.{}.{id}@example.com", first.to_lowercase(), last.to_lowercase()),
        }
    })
}

pub(super) fn orders(seed: u64, size: Size) -> impl Iterator<Item = OrderRow> {
    let mut rng = Rng::with_seed(seed ^ 3);
    let popular = Zipf::new(size.products, SALES_SKEW);
    (1..=size.orders).map(move |id| {
        let mut products: Vec<u32> = (0..rng.u8(1..=4)).map(|_| popular.sample(&mut rng)).collect();
        products.sort_unstable();
        products.dedup();
        OrderRow {
            id,
            user: UserId(rng.u32(1..=size.users)),
            ordered_at: FIRST_ORDER_AT + SECONDS_OF_SALES * i64::from(id) / i64::from(size.orders),
            lines: products.into_iter().map(|product| line(&mut rng, product)).collect(),
        }
    })
}

fn line(rng: &mut Rng, product: u32) -> LineRow {
    let discount = rng.u32(0..=20);
    LineRow {
        product: ProductId(product),
        quantity: rng.u32(1..=3),
        price_cents: list_price(product) * (100 - discount) / 100,
    }
}

/// A function of the product alone, so that orders know it without asking the database.
fn list_price(product: u32) -> u32 {
    499 + product.wrapping_mul(2_654_435_761) % 200 * 100
}

/// In stock on the first day.
fn pieces(product: u32) -> u32 {
    product.wrapping_mul(2_654_435_761) % 97
}

fn description(rng: &mut Rng, subject: &str) -> String {
    let praise = rng.choose_multiple(PRAISE.iter().copied(), 5);
    format!("The {subject}: {}.", praise.join(", "))
}

fn pick(rng: &mut Rng, words: &[&'static str]) -> &'static str {
    words[rng.usize(..words.len())]
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let separator = if matches!(suffix, "wal" | "shm") { "-" } else { "." };
    let mut name = path.as_os_str().to_owned();
    name.push(separator);
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const COLOURS: &[&str] =
    &["Amber", "Black", "Blue", "Coral", "Green", "Grey", "Ivory", "Olive", "Red", "White"];
const MATERIALS: &[&str] = &["Steel", "Oak", "Linen", "Glass", "Wool", "Leather", "Bamboo", "Copper"];
const THINGS: &[&str] =
    &["lamp", "chair", "kettle", "backpack", "clock", "bowl", "blanket", "desk", "mirror"];
const FIRST_NAMES: &[&str] =
    &["Ada", "Alan", "Barbara", "Donald", "Edsger", "Grace", "John", "Ken", "Leslie", "Margaret"];
const LAST_NAMES: &[&str] =
    &["Adler", "Berg", "Costa", "Diaz", "Evans", "Fischer", "Novak", "Okafor", "Rossi", "Tanaka"];
const PRAISE: &[&str] = &[
    "made to last for decades",
    "light enough to carry with one hand",
    "easy to clean and hard to break",
    "designed with the people who use it every day",
    "delivered without plastic around it",
    "repaired free of charge for five years",
    "tested by a laboratory that we do not own",
    "loved by those who have one already",
    "sold in more than thirty countries",
    "finished by hand in a small workshop",
];

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn rows_of(path: &Path) -> Vec<String> {
        let connection = Connection::open(path).unwrap();
        let mut rows = Vec::new();
        for table in ["categories", "products", "stock", "users", "orders", "order_lines"] {
            let mut query = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
            let columns = query.column_count();
            let read = |row: &rusqlite::Row<'_>| {
                (0..columns)
                    .map(|n| row.get_ref(n).map(|value| format!("{value:?}")))
                    .collect::<Result<String, _>>()
            };
            rows.extend(query.query_map([], read).unwrap().map(Result::unwrap));
        }
        rows
    }

    #[test]
    fn the_same_seed_makes_the_same_rows_and_another_seed_others() {
        let all = |seed| {
            let products: Vec<_> = products(seed, Size::SMALL).collect();
            let users: Vec<_> = users(seed, Size::SMALL).collect();
            let orders: Vec<_> = orders(seed, Size::SMALL).collect();
            (products, users, orders)
        };
        assert_eq!(all(7), all(7));
        let (a, b) = (all(7), all(8));
        assert!(a.0 != b.0 && a.1 != b.1 && a.2 != b.2);
    }

    #[test]
    fn two_files_hold_the_same_rows_in_the_promised_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.db"), dir.path().join("two.db"));
        assert_eq!(prepare(&one, Size::SMALL, |_| {}).unwrap(), Size::SMALL);
        prepare(&two, Size::SMALL, |_| {}).unwrap();
        assert_eq!(rows_of(&one), rows_of(&two));
        assert_eq!(measure(&Connection::open(&one).unwrap()).unwrap(), Size::SMALL);
    }

    #[test]
    fn popular_products_have_the_lower_numbers() {
        let mut sold = vec![0_u32; Size::SMALL.products as usize + 1];
        for line in orders(SEED, Size::SMALL).flat_map(|order| order.lines) {
            sold[line.product.0 as usize] += line.quantity;
        }
        assert!(sold[1] > 5 * sold[200], "{} against {}", sold[1], sold[200]);
        assert!(sold[1..=200].iter().sum::<u32>() > sold[201..].iter().sum());
    }

    #[test]
    fn an_existing_database_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        prepare(&path, Size::SMALL, |_| {}).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute("UPDATE products SET price_cents = 1 WHERE id = 7", [])
            .unwrap();
        let reports = RefCell::new(0);
        let found = prepare(&path, Size::FULL, |_| *reports.borrow_mut() += 1).unwrap();
        assert_eq!((found, reports.into_inner()), (Size::SMALL, 0));
        let price = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
        let connection = Connection::open(&path).unwrap();
        assert_eq!(
            connection.query_row("SELECT price_cents FROM products WHERE id = 7", [], price).unwrap(),
            1
        );
    }

    #[test]
    fn a_half_made_file_is_not_taken_for_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole) = (dir.path().join("shop.db"), dir.path().join("whole.db"));
        prepare(&whole, Size::SMALL, |_| {}).unwrap();
        // What a killed run leaves: some pages under the temporary name.
        let half = fs::read(&whole).unwrap();
        fs::write(beside(&path, "partial"), &half[..half.len() / 2]).unwrap();
        prepare(&path, Size::SMALL, |_| {}).unwrap();
        assert_eq!(rows_of(&path), rows_of(&whole));
        assert!(!beside(&path, "partial").exists());
    }

    #[test]
    fn a_run_that_dies_while_it_fills_leaves_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        let died = std::panic::catch_unwind(|| prepare(&path, Size::SMALL, |_| panic!("killed")));
        assert!(died.is_err());
        assert!(!path.exists());
        prepare(&path, Size::SMALL, |_| {}).unwrap();
        assert_eq!(measure(&Connection::open(&path).unwrap()).unwrap(), Size::SMALL);
    }

    #[test]
    fn a_database_of_an_earlier_generator_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        prepare(&path, Size { products: 40, ..Size::SMALL }, |_| {}).unwrap();
        Connection::open(&path).unwrap().pragma_update(None, "user_version", GENERATOR - 1).unwrap();
        assert_eq!(prepare(&path, Size::SMALL, |_| {}).unwrap(), Size::SMALL);
        assert_eq!(measure(&Connection::open(&path).unwrap()).unwrap(), Size::SMALL);
    }

    #[test]
    fn a_file_of_somebody_else_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("diary.txt");
        fs::write(
            &text,
            "Dear diary, this is not a database, and longer than a header of one hundred bytes is. "
                .repeat(20),
        )
        .unwrap();
        let other = dir.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        for path in [text, other] {
            let before = fs::read(&path).unwrap();
            assert!(matches!(prepare(&path, Size::SMALL, |_| {}), Err(SeedError::Foreign(_))));
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}
