//! The program as people run it, on a small shop: what it prints, and that nothing of it stays.
#![cfg(target_os = "linux")] // Reads /proc to find the processes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn storefront(directory: &TempDir, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storefront"));
    command.args(["--small", "--database"]).arg(directory.path().join("shop.db")).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The cells of the row that begins with `name`.
fn row(report: &str, name: &str) -> Vec<String> {
    let line = report.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no row {name:?} in\n{report}"));
    line.trim_start()[name.len()..]
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The processes that `parent` has started and that still run.
fn children(parent: &Child) -> Vec<PathBuf> {
    let pid = parent.id();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| Path::new("/proc").join(pid)).collect::<Vec<_>>())
        .collect()
}

/// A process that nobody has waited for yet is still listed, as a zombie.
fn runs(process: &Path) -> bool {
    fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_for_children(parent: &Child, count: usize) -> Vec<PathBuf> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let found = children(parent);
        if found.len() >= count {
            return found;
        }
        thread::yield_now();
    }
    panic!("there are only {:?}", children(parent));
}

fn interrupt(process: &Child) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

#[test]
fn a_second_run_uses_the_database_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut runs = [(); 2].map(|()| text(&storefront(&directory, &["--seconds", "1"]).output().unwrap()));
    for report in &mut runs {
        assert!(report.contains("400 products in 8 categories, 100 users, 1,000 orders"), "{report}");
        assert_eq!(row(report, "database queries saved")[0], "0.0 %");
        assert!(row(report, "served from memory")[1].ends_with('%'));
        assert_eq!(row(report, "database queries  "), ["1,000", "1"]);
        assert_ne!(row(report, "products in it")[1], "0");
        assert_eq!(row(report, "old prices where it was changed"), ["0", "0"]);
        assert_eq!(row(report, "database queries to read it"), ["100", "0"]);
        assert!(!report.contains("the bus"), "{report}");
    }
    assert!(!directory.path().join("shop.db.partial").exists());
}

#[test]
fn two_processes_share_a_redis_and_all_are_gone_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let process = storefront(&directory, &["--redis", "--seconds", "1"]).spawn().unwrap();
    let started = wait_for_children(&process, 3);
    let report = text(&process.wait_with_output().unwrap());
    assert!(report.contains("two processes that share a Redis"), "{report}");
    assert!(row(&report, "served from Redis")[1].ends_with('%'));
    assert_eq!(row(&report, "database queries  "), ["1,000", "1"]);
    assert_eq!(row(&report, "old prices where it was changed"), ["0", "0"]);
    assert!(report.contains("12 connections of the bus are cut"), "{report}");
    assert!(row(&report, "noticed by both processes, after")[1].ends_with('s'), "{report}");
    assert!(row(&report, "listed by the other process, after")[1].ends_with('s'), "{report}");
    assert_eq!(row(&report, "let through"), ["-", "55"]);
    assert!(row(&report, "told to wait (429), at most")[1].ends_with('s'), "{report}");
    assert!(!started.iter().any(|process| runs(process)));
}

#[test]
fn served_pages_are_up_until_an_interrupt_and_nothing_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = storefront(&directory, &["--redis", "--serve", "--seconds", "1"]).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let curl = lines.find(|line| line.contains("curl -i http://")).unwrap();
    let (_, url) = curl.split_once("http://").unwrap();
    let (address, path) = url.split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, format!("GET /{path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK") && answer.contains("\"price_cents\""), "{answer}");

    let started = children(&process);
    assert_eq!(started.len(), 3);
    interrupt(&process);
    assert!(process.wait().unwrap().success());
    assert!(!started.iter().any(|process| runs(process)));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn an_interrupt_during_the_load_stops_everything() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = storefront(&directory, &["--redis", "--seconds", "60"]).spawn().unwrap();
    let started = wait_for_children(&process, 3);
    interrupt(&process);
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert!(!started.iter().any(|process| runs(process)));
}

#[test]
fn an_error_during_the_load_stops_everything() {
    let directory = tempfile::tempdir().unwrap();
    let process = storefront(&directory, &["--redis", "--seconds", "60"]).spawn().unwrap();
    let started = wait_for_children(&process, 3);
    let serves = |process: &&PathBuf| {
        fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("serve-node"))
    };
    let node = started.iter().find(serves).unwrap().file_name().unwrap();
    assert!(Command::new("kill").arg("-KILL").arg(node).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!started.iter().any(|process| runs(process)));
}

#[test]
fn a_killed_run_leaves_no_service_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = storefront(&directory, &["--seconds", "60"]).spawn().unwrap();
    let started = wait_for_children(&process, 1);
    process.kill().unwrap();
    process.wait().unwrap();
    let start = Instant::now();
    while started.iter().any(|process| runs(process)) {
        assert!(start.elapsed() < Duration::from_secs(30), "{started:?} outlived the run");
        thread::yield_now();
    }
}

#[test]
fn a_service_that_is_killed_again_and_again_loses_no_view_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let report = text(&storefront(&directory, &["--crash", "--seconds", "1"]).output().unwrap());
    let number = |name: &str| row(&report, name)[0].replace(',', "").parse::<u64>().unwrap();
    let (acknowledged, counted) = (number("views acknowledged"), number("counted in the database"));
    assert!(acknowledged > 0 && number("acknowledged and lost") == 0, "{report}");
    let unanswered = number("asked for when it died, and not answered");
    assert!((acknowledged..=acknowledged + unanswered).contains(&counted), "{report}");
    assert!(number("brought back by the journal") > 0, "{report}");
}

#[test]
fn a_missing_redis_server_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let output = storefront(&directory, &["--redis"])
        .env_remove("CACHALOT_REDIS_SERVER")
        .env("PATH", "")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("redis-server is not installed"), "{message}");
}

#[test]
fn an_unknown_option_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(storefront(&directory, &["--rediss"]).output().unwrap().status.code(), Some(1));
    let help = storefront(&directory, &["--help"]).output().unwrap();
    assert!(text(&help).contains("--serve"));
}

#[test]
fn the_redis_server_that_the_environment_names_is_the_one_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = storefront(&directory, &["--redis"]);
    let output = demo.env("CACHALOT_REDIS_SERVER", directory.path().join("nothing")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("CACHALOT_REDIS_SERVER"), "{errors}");
}
