//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

/// What `--help` prints.
pub const HELP: &str = "\
A shop's service over SQLite, with and without cachalot in front.

Usage: cargo xtask demo [OPTIONS]

Options:
  --redis            Two service processes that share a Redis; starts a redis-server of its own
  --crash            Then kill the service again and again while views are counted, and look for lost ones
  --serve            Keep the service up afterwards, until Ctrl-C
  --seconds N        Length of each of the two loads [default: 5]
  --database PATH    The shop's file, made if missing [default: target/storefront/shop.db]
  --help             Print this
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The demo.
    Demo(DemoArgs),
    /// Serve the shop, as the demo asks its processes to; not for people.
    ServeNode(NodeArgs),
    /// Print [`HELP`].
    Help,
}

/// How the demo runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoArgs {
    /// Two processes over one Redis, instead of one over its memory.
    pub redis: bool,
    /// Whether the service is killed while it counts.
    pub crash: bool,
    /// Whether the service stays up until Ctrl-C.
    pub serve: bool,
    /// Length of each load. Default 5 s.
    pub duration: Duration,
    /// The shop's file. Default `target/storefront/shop.db` of the workspace.
    pub database: PathBuf,
    /// A small shop instead of the full one, if it has to be made; for tests.
    pub small: bool,
}

/// How a service process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeArgs {
    /// The shop's file; must exist.
    pub database: PathBuf,
    /// The cache in front of it.
    pub cache: CacheChoice,
    /// Where it keeps views that the database does not have yet; nowhere without a cache. Default: beside the database.
    pub journal: PathBuf,
}

/// The cache of a service process, written `off`, `memory` or as a `redis://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheChoice {
    /// None: every read is a query.
    Off,
    /// In this process.
    Memory,
    /// In this process, with Redis at this URL behind it.
    Redis(String),
}

impl fmt::Display for CacheChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Memory => "memory",
            Self::Redis(url) => url,
        })
    }
}

/// Reads the arguments, without the program's name.
///
/// # Errors
/// On an unknown option or a value that is none.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = Parser::from_args(args);
    let mut demo = DemoArgs {
        redis: false,
        crash: false,
        serve: false,
        duration: Duration::from_secs(5),
        database: default_database(),
        small: false,
    };
    let (mut node, mut journal) = (None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(word) if word == "serve-node" => node = Some(CacheChoice::Memory),
            Arg::Long("cache") if node.is_some() => node = Some(cache_choice(parser.value()?.string()?)),
            Arg::Long("journal") if node.is_some() => journal = Some(parser.value()?.into()),
            Arg::Long("database") => demo.database = parser.value()?.into(),
            Arg::Long("redis") => demo.redis = true,
            Arg::Long("crash") => demo.crash = true,
            Arg::Long("serve") => demo.serve = true,
            Arg::Long("small") => demo.small = true,
            Arg::Long("seconds") => {
                demo.duration = Duration::from_secs(parser.value()?.parse::<u32>()?.into())
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(match node {
        Some(cache) => {
            let journal = journal.unwrap_or_else(|| demo.database.with_extension("views"));
            Command::ServeNode(NodeArgs { database: demo.database, cache, journal })
        }
        None => Command::Demo(demo),
    })
}

fn cache_choice(word: String) -> CacheChoice {
    match word.as_str() {
        "off" => CacheChoice::Off,
        "memory" => CacheChoice::Memory,
        _ => CacheChoice::Redis(word),
    }
}

fn default_database() -> PathBuf {
    let workspace = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let workspace = workspace.canonicalize().unwrap_or_default();
    workspace.join("target/storefront/shop.db")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, lexopt::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn without_arguments_the_demo_runs_in_the_target_folder_of_the_workspace() {
        let Ok(Command::Demo(demo)) = parsed("") else { panic!("no demo") };
        assert!(demo.database.ends_with("target/storefront/shop.db"));
        assert!(demo.database.is_absolute());
        assert!(!demo.redis && !demo.crash && !demo.serve && !demo.small);
    }

    #[test]
    fn options_are_read() {
        let Ok(Command::Demo(demo)) = parsed("--redis --crash --serve --seconds 2 --database a.db") else {
            panic!("no demo")
        };
        assert!(demo.redis && demo.crash && demo.serve);
        assert_eq!((demo.duration, demo.database), (Duration::from_secs(2), PathBuf::from("a.db")));
        assert!(matches!(parsed("--help"), Ok(Command::Help)));
        assert!(parsed("--rediss").is_err());
        assert!(parsed("--seconds many").is_err());
        assert!(parsed("--cache off").is_err());
    }

    #[test]
    fn what_a_node_is_told_is_what_it_reads() {
        for cache in [CacheChoice::Off, CacheChoice::Memory, CacheChoice::Redis("redis://127.0.0.1:1".into())]
        {
            let line = format!("serve-node --database a.db --cache {cache} --journal a.journal");
            let (database, journal) = (PathBuf::from("a.db"), PathBuf::from("a.journal"));
            let node = NodeArgs { database, cache, journal };
            assert_eq!(parsed(&line).unwrap(), Command::ServeNode(node));
        }
    }
}
