//! What a suite is asked for on its command line, and its rounds.

use std::io;
use std::path::PathBuf;

/// How often the contenders of a suite measure themselves in turn, if nobody says otherwise.
const ROUNDS: usize = 9;

/// `--rounds N`, `--only NAME`, `--report FILE`; cargo adds `--bench`, without which all is done once, as a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often the contenders measure themselves in turn. Default: 9; 1 for a check.
    pub rounds: usize,
    /// One contender or scene alone, to be profiled.
    pub only: Option<String>,
    /// Where the rows go.
    pub report: Option<PathBuf>,
    /// Whether it is to measure, and not to check that it works.
    pub bench: bool,
}

impl Options {
    /// Reads `args`, which do not begin with the program's name.
    ///
    /// # Errors
    /// On what it does not know, with how `suite` is used.
    pub fn parse(suite: &str, args: impl IntoIterator<Item = String>) -> io::Result<Self> {
        let usage = || {
            let usage = format!("usage: {suite} [--rounds N] [--only NAME] [--report FILE]");
            io::Error::new(io::ErrorKind::InvalidInput, usage)
        };
        let mut options = Self { rounds: ROUNDS, only: None, report: None, bench: false };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => options.bench = true,
                "--rounds" => {
                    let rounds = args.next().and_then(|rounds| rounds.parse().ok());
                    options.rounds = rounds.filter(|rounds| *rounds > 0).ok_or_else(usage)?;
                }
                "--only" => options.only = Some(args.next().ok_or_else(usage)?),
                "--report" => options.report = Some(args.next().ok_or_else(usage)?.into()),
                _ => return Err(usage()),
            }
        }
        if !options.bench {
            options.rounds = 1;
        }
        Ok(options)
    }
}

/// Plays each of `contenders` in turn, round after round; each round begins with another one.
#[allow(clippy::print_stderr, reason = "progress")]
pub fn rounds<T>(count: usize, scene: &str, contenders: &mut [T], mut play: impl FnMut(&mut T)) {
    for round in 0..count {
        eprintln!("round {}/{count}  {scene}", round + 1);
        let len = contenders.len();
        (0..len).for_each(|at| play(&mut contenders[(at + round) % len]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> io::Result<Options> {
        Options::parse("demo", line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_bench_all_is_done_once() {
        let check = Options { rounds: 1, only: None, report: None, bench: false };
        assert_eq!(parsed("--rounds 5").unwrap(), check);
        let asked = Options { rounds: 5, only: Some("ours".into()), bench: true, ..check };
        assert_eq!(parsed("--bench --rounds 5 --only ours").unwrap(), asked);
        assert!(["--rounds 0", "--rounds", "--nonsense"].iter().all(|line| parsed(line).is_err()));
    }

    #[test]
    fn each_round_begins_with_another_one() {
        let mut order = String::new();
        rounds(3, "letters", &mut ['a', 'b', 'c'], |one| order.push(*one));
        assert_eq!(order, "abcbcacab");
    }
}
