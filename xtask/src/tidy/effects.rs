//! Time, randomness and tasks are injected: only named files may reach for the real ones.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

use super::Findings;
use crate::workspace;

/// Paths that reach for an effect. One that ends in `::` forbids everything below it.
const EFFECTS: [&str; 8] = [
    "Instant::now",
    "SystemTime::now",
    "tokio::spawn",
    "task::spawn",
    "thread::spawn",
    "fastrand::",
    "getrandom::",
    "rand::",
];

/// A file that may use an effect, because it is where the effect is injected from.
struct Allowed {
    file: &'static str,
    effects: &'static [&'static str],
}

const ALLOWED: [Allowed; 7] = [
    // `Clock::system` anchors monotonic time to wall time once, and reads `Instant` where there is no coarse clock.
    Allowed { file: "crates/cachalot-core/src/clock.rs", effects: &["Instant::now", "SystemTime::now"] },
    // `Entropy` is the one source of randomness.
    Allowed { file: "crates/cachalot-core/src/entropy.rs", effects: &["fastrand::", "getrandom::"] },
    // An operation of two steps goes to its end though its caller leaves; it has a deadline.
    Allowed { file: "crates/cachalot-memcached-backend/src/backend.rs", effects: &["tokio::spawn"] },
    // A connection is written and read by two tasks, which end with it.
    Allowed { file: "crates/cachalot-memcached-backend/src/wire.rs", effects: &["tokio::spawn"] },
    // The gatherer of concurrent reads ends when nobody waits; the client's connections run on tokio's tasks anyway.
    Allowed { file: "crates/cachalot-redis-backend/src/gather.rs", effects: &["tokio::spawn"] },
    // By RESP2 the client's queue has no bound, so a task empties it; it ends with the subscription's connection.
    Allowed { file: "crates/cachalot-redis-backend/src/bus/pub_sub.rs", effects: &["tokio::spawn"] },
    // `TokioSpawn` is the `Spawn` that everyone gets unless given another.
    Allowed { file: "crates/cachalot-stampede/src/spawn.rs", effects: &["tokio::spawn"] },
];

/// Test tools inject by their nature.
const EXEMPT: &str = "crates/cachalot-testkit/";

pub(super) fn check() -> Result<Findings> {
    let root = workspace::root();
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for file in sources(&root.join("crates"))? {
        let name = file.strip_prefix(&root)?.to_string_lossy().replace('\\', "/");
        if is_test(&name) {
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
        for (effect, line) in effects_in(&text).with_context(|| name.clone())? {
            if is_allowed(&name, effect) {
                used.push((name.clone(), effect));
            } else {
                findings.push(format!("{name}:{line}: {effect}: take it from the injected one"));
            }
        }
    }
    findings.extend(unused(&used));
    Ok(findings)
}

fn is_allowed(file: &str, effect: &str) -> bool {
    ALLOWED.iter().any(|allowed| allowed.file == file && allowed.effects.contains(&effect))
}

/// An allowance that nothing needs any more must go.
fn unused(used: &[(String, &str)]) -> Findings {
    let mut findings = Vec::new();
    for allowed in &ALLOWED {
        for effect in allowed.effects {
            if !used.iter().any(|(file, used)| file == allowed.file && used == effect) {
                findings.push(format!("{} no longer needs {effect}: shorten the list", allowed.file));
            }
        }
    }
    findings
}

fn is_test(file: &str) -> bool {
    file.starts_with(EXEMPT) || file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// Every Rust file below the `src` of each crate.
fn sources(crates: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(crates)? {
        collect(&entry?.path().join("src"), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The effects that a file's code uses and their lines; not its comments, strings and test modules.
fn effects_in(source: &str) -> Result<Vec<(&'static str, usize)>> {
    let tokens = TokenStream::from_str(source).map_err(|error| anyhow!("no Rust: {error}"))?;
    let mut words = Vec::new();
    flatten(tokens, &mut words);
    let mut found = Vec::new();
    for (at, (_, span)) in words.iter().enumerate() {
        let effect = EFFECTS.into_iter().find(|effect| starts_with_path(&words[at..], effect));
        found.extend(effect.map(|effect| (effect, span.start().line)));
    }
    Ok(found)
}

type Word = (String, Span);

/// Turns nested tokens into one list, leaving out items under `#[cfg(test)]` and doc comments.
fn flatten(tokens: TokenStream, words: &mut Vec<Word>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let span = token.span();
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let test_only = tokens.next_if(is_attribute).is_some_and(|attribute| is_cfg_test(&attribute));
                if test_only {
                    // The item ends with its body or, without one, with a semicolon.
                    let _ = tokens.by_ref().find(ends_item);
                }
            }
            TokenTree::Group(group) => {
                words.push((String::from("("), span));
                flatten(group.stream(), words);
                words.push((String::from(")"), span));
            }
            TokenTree::Literal(_) => words.push((String::from("literal"), span)),
            other => words.push((other.to_string(), span)),
        }
    }
}

fn is_attribute(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket)
}

fn is_cfg_test(attribute: &TokenTree) -> bool {
    let TokenTree::Group(group) = attribute else {
        return false;
    };
    let condition = group.stream().to_string().replace(' ', "");
    condition == "cfg(test)" || condition.starts_with("cfg(all(test,")
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    }
}

fn starts_with_path(words: &[Word], path: &str) -> bool {
    let parts = path.split("::").filter(|part| !part.is_empty());
    let mut wanted: Vec<&str> = parts.flat_map(|part| [part, ":", ":"]).collect();
    if !path.ends_with("::") {
        wanted.truncate(wanted.len() - 2);
    }
    wanted.len() <= words.len() && wanted.iter().zip(words).all(|(wanted, (word, _))| wanted == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<(&'static str, usize)> {
        effects_in(source).unwrap()
    }

    #[test]
    fn a_clock_in_code_is_found_with_its_line() {
        assert_eq!(found("fn f() {\n    let t = std::time::Instant::now();\n}"), [("Instant::now", 2)]);
    }

    #[test]
    fn a_global_generator_is_found_under_any_function() {
        assert_eq!(found("fn f() -> u64 { fastrand::u64(..) }"), [("fastrand::", 1)]);
        assert_eq!(found("fn f() { g(rand::random()); }"), [("rand::", 1)]);
    }

    #[test]
    fn comments_docs_and_strings_are_no_code() {
        let source = "//! tokio::spawn\n/// Instant::now\nfn f() { /* rand:: */ g(\"SystemTime::now\") }";
        assert_eq!(found(source), []);
    }

    #[test]
    fn test_modules_may_use_anything() {
        let source = "#[cfg(test)]\nmod tests { fn f() { tokio::spawn(g()); } }\n#[cfg(test)] use rand::Rng;\nfn h() {}";
        assert_eq!(found(source), []);
    }

    #[test]
    fn a_test_module_may_have_more_conditions() {
        let source = "#[cfg(all(test, not(loom)))]\nmod tests { fn f() { tokio::spawn(g()); } }";
        assert_eq!(found(source), []);
        assert_ne!(found(&source.replace("test", "unix")), []);
    }

    #[test]
    fn code_after_a_test_module_is_still_searched() {
        let source = "#[cfg(test)]\nmod tests { }\nfn f() { tokio::spawn(g()); }";
        assert_eq!(found(source), [("tokio::spawn", 3)]);
    }

    #[test]
    fn a_type_of_the_same_name_is_no_call() {
        assert_eq!(found("use std::time::Instant; fn f(t: Instant) -> Instant { self::now(t) }"), []);
    }

    #[test]
    fn an_allowance_nothing_needs_is_reported() {
        assert!(!unused(&[]).is_empty());
    }
}
