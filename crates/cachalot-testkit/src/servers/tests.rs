use super::*;

/// What is listening, whoever it is.
fn listens(port: u16) -> bool {
    TcpStream::connect(loopback(port)).is_ok()
}

fn talk(server: &Server, question: &str, until: &str) -> bool {
    ask(server.port(), question, |answer| answer.contains(until)).unwrap_or(false)
}

#[test]
fn redis_answers_at_its_address_until_dropped() {
    let server = RedisServer::start();
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    assert!(talk(&server, "PING\r\n", "+PONG"));
    let (port, directory) = (server.port(), server.directory().to_owned());
    assert!(directory.is_dir());
    drop(server);
    assert!(!listens(port));
    assert!(!directory.exists());
}

#[test]
fn memcached_answers_at_its_address_until_dropped() {
    let server = MemcachedServer::start();
    assert_eq!(server.url(), format!("memcache://127.0.0.1:{}", server.port()));
    assert!(talk(&server, "mn\r\n", "MN"));
    let port = server.port();
    drop(server);
    assert!(!listens(port));
}

#[test]
fn two_servers_do_not_meet() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    assert_ne!(first.port(), second.port());
    assert!(talk(&first, "SET k 1\r\n", "+OK"));
    assert!(talk(&second, "GET k\r\n", "$-1"));
}

#[test]
fn a_restarted_server_has_its_port_again_and_forgot_everything() {
    let server = RedisServer::start();
    let (port, pid) = (server.port(), server.pid());
    assert!(talk(&server, "SET k 1\r\n", "+OK"));
    server.kill();
    assert!(!listens(port));
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert!(talk(&server, "GET k\r\n", "$-1"));
}

#[test]
fn more_arguments_win_over_the_usual_ones() {
    let server = RedisServer::start_with(["--appendonly", "yes", "--appendfsync", "always"]);
    assert!(talk(&server, "SET k 1\r\n", "+OK"));
    server.restart();
    assert!(talk(&server, "GET k\r\n", "$1"));
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    let server = RedisServer::start();
    server.pause();
    assert!(!talk(&server, "PING\r\n", "+PONG"));
    server.resume();
    assert!(talk(&server, "PING\r\n", "+PONG"));
}

#[test]
fn a_paused_server_ends_with_its_handle() {
    let server = MemcachedServer::start();
    server.pause();
    let port = server.port();
    drop(server);
    assert!(!listens(port));
}

#[test]
fn a_panicking_test_leaves_no_server_behind() {
    let port = std::panic::catch_unwind(|| {
        let server = RedisServer::start();
        std::panic::panic_any(server.port());
    })
    .unwrap_err();
    assert!(!listens(*port.downcast::<u16>().unwrap()));
}

#[test]
fn a_missing_program_says_what_to_run() {
    static NOWHERE: Kind =
        Kind { program: "cachalot-no-such-server", variable: "CACHALOT_NO_SUCH_SERVER", ..REDIS };
    let panic = std::panic::catch_unwind(|| Server::start(&NOWHERE, ["x"])).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.contains("cargo xtask test --install-servers"), "{text}");
}
