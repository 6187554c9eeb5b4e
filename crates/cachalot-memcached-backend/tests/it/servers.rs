//! One address that leads to several servers, and servers that say what none should.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use cachalot_core::{Backend, ErrorKind, Key, LeaseBackend, PutReply, Removed};
use cachalot_testkit::MemcachedServer;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::support::{Relay, TERM, eventually, patient, put, raw, token};

#[tokio::test]
async fn connections_to_the_server_before_end_before_the_next_one_is_used() {
    let (old, new) = (MemcachedServer::start(), MemcachedServer::start());
    let relay = Relay::to(old.addr()).await;
    let backend = patient(relay.url()).connect().await.unwrap();
    let (key, owner) = (Key::new("users:1"), token());
    // The first connection stands; the second is made now.
    relay.lead_to(new.addr());
    let before = backend.incarnation();
    // Over each connection in turn. What was begun over the one that ends may fail.
    for n in 0..4 {
        let _ = backend.get_or_lease(&Key::new(format!("k{n}")), token(), TERM, None).await;
    }
    let after = backend.incarnation();
    assert_eq!(after, before + 1, "the next server was met");
    // Whatever is done from now on is done there, by either connection.
    eventually(async || backend.get_or_lease(&key, owner, TERM, None).await.ok()).await;
    assert_eq!(backend.put_leased(&key, owner, put("v")).await.unwrap(), PutReply::Stored);
    for _ in 0..4 {
        assert!(backend.get(&key).await.unwrap().is_some());
        assert!(backend.get_many(std::slice::from_ref(&key)).await.remove(0).unwrap().is_some());
    }
    assert_eq!(raw(old.addr(), "mg users:1\r\n"), "EN\r\n");
    assert_eq!(backend.remove(&key).await.unwrap(), Removed::Existing);
    for _ in 0..4 {
        assert_eq!(backend.get(&key).await.unwrap(), None);
    }
    assert_eq!(backend.incarnation(), after);
}

/// A server that greets well and then answers each line with the next of `answers`, with `O?` told the number of the line
/// that is answered; without any left, it says nothing.
async fn liar(item_size_max: &'static str, answers: &[&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("memcache://{}", listener.local_addr().unwrap());
    let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = answers.clone();
            tokio::spawn(async move {
                let (input, mut output) = stream.into_split();
                let (mut input, mut line) = (BufReader::new(input), String::new());
                while input.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    let line = std::mem::take(&mut line);
                    let line = line.trim_end();
                    if let Some(item) = line.strip_prefix("ms ") {
                        let size =
                            item.split(' ').nth(1).and_then(|size| size.parse::<usize>().ok()).unwrap();
                        input.read_exact(&mut vec![0; size + 2]).await.unwrap();
                    }
                    let answer = match line {
                        "stats" => "STAT pid 7\r\nSTAT uptime 5\r\nSTAT time 1800000000\r\nSTAT version 1.6.18\r\nEND\r\n".into(),
                        "stats settings" => {
                            format!("STAT item_size_max {item_size_max}\r\nSTAT cas_enabled yes\r\nEND\r\n")
                        }
                        "mn" => "MN\r\n".into(),
                        line => {
                            let number = line.split(' ').find(|word| word.starts_with('O'));
                            let next = answers.lock().unwrap().pop_front();
                            next.unwrap_or_default().replace("O?", number.unwrap_or_default())
                        }
                    };
                    if output.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_value_that_is_announced_beyond_all_memory_costs_the_connection_alone() {
    for (largest, value) in [
        ("1099511627776", "VA 1099511627775 c1\r\n"),
        ("18446744073709551615", "VA 18446744073709551614 c1\r\n"),
        ("18446744073709551615", "VA 18446744073709551615 c1\r\n"),
    ] {
        let backend = patient(liar(largest, &[value, value, value, value]).await).connect().await.unwrap();
        let error = backend.get(&Key::new("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("longer than the server may keep"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_to_something_else_ends_the_connection_and_is_nobodys() {
    // The look that begins a removal is answered by what no look is; or by the item of another.
    for answer in ["NF\r\n", "VA 0 c1 O?\r\n\r\n", "HD c5 t9 f0 s1 O77\r\n", "HD c5 t9 f0 s1\r\n", "MN\r\n"] {
        let backend = patient(liar("1048576", &[answer, answer]).await).connect().await.unwrap();
        let error = backend.remove(&Key::new("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{answer:?}: {error}");
    }
    // A reader is not given the value of another key.
    for answer in ["HD c5\r\n", "VA 1 c5 O77\r\nx\r\n", "VA 1 c5\r\nx\r\n"] {
        let backend = patient(liar("1048576", &[answer, answer]).await).connect().await.unwrap();
        backend.get(&Key::new("k")).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_server_without_memory_refuses_a_put_and_keeps_the_connection() {
    // A lease; the put; then, on the same connection, a look that finds nothing.
    let answers = ["VA 0 c1 t20 f0 W O?\r\n\r\n", "SERVER_ERROR out of memory storing object\r\n", "EN\r\n"];
    let backend = patient(liar("1048576", &answers).await).connections(1).connect().await.unwrap();
    let (key, owner) = (Key::new("k"), token());
    backend.get_or_lease(&key, owner, TERM, None).await.unwrap();
    let error = backend.put_leased(&key, owner, put("v")).await.unwrap_err();
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert_eq!(backend.remove(&key).await.unwrap(), Removed::Nothing);
}

#[tokio::test]
async fn a_server_that_refuses_all_is_not_greeted_for_each_command() {
    let answers = ["ERROR\r\n"; 100];
    let backend = patient(liar("1048576", &answers).await).connections(1).connect().await.unwrap();
    let mut paused = 0;
    for _ in 0..20 {
        let error = backend.get(&Key::new("k")).await.unwrap_err();
        paused += u32::from(error.to_string().contains("not connected"));
    }
    assert!(paused > 0, "each made a connection");
}
