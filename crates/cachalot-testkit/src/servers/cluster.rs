//! A Redis Cluster of one's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::RedisServer;

/// Primaries of a Redis Cluster that share the slots evenly, and replicas if asked for, each a server of its own.
/// [`Server::restart`](super::Server::restart) of one of them brings it back as what it was.
///
/// A port and the one 10,000 above it must be free for each.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    primaries: usize,
}

const SLOTS: usize = 16_384;
/// How often to look whether all agree, and the pause between two looks: a minute in all.
const LOOKS: u32 = 3_000;
const PAUSE: Duration = Duration::from_millis(20);

impl RedisCluster {
    /// Starts so many primaries and waits until each knows who has which slots.
    ///
    /// # Panics
    /// As [`RedisServer::start`]; and if they do not agree within a minute.
    pub fn start(primaries: usize) -> Self {
        Self::start_with_replicas(primaries, 0)
    }

    /// Starts so many primaries, and so many replicas of each.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with_replicas(primaries: usize, replicas: usize) -> Self {
        let args = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--repl-diskless-sync-delay",
            "0",
            "--save",
            "",
        ];
        let nodes: Vec<RedisServer> =
            (0..primaries * (1 + replicas)).map(|_| RedisServer::start_with(args)).collect();
        let cluster = Self { nodes, primaries };
        cluster.meet();
        cluster
    }

    /// The primaries at the start, in the order of their slots.
    pub fn primaries(&self) -> &[RedisServer] {
        &self.nodes[..self.primaries]
    }

    /// The replicas at the start: as many of the first primary as of each, then those of the next.
    pub fn replicas(&self) -> &[RedisServer] {
        &self.nodes[self.primaries..]
    }

    /// Where the nodes listen, as a client is told; each of them leads to all.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url()).collect()
    }

    /// What `node` calls itself.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn id(&self, node: &RedisServer) -> String {
        command(node, &["CLUSTER", "MYID"])
    }

    fn meet(&self) {
        for (at, node) in self.primaries().iter().enumerate() {
            let (first, last) = (SLOTS * at / self.primaries, SLOTS * (at + 1) / self.primaries - 1);
            command(node, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            command(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        for node in &self.nodes[1..] {
            command(&self.nodes[0], &["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
        }
        let all = format!("cluster_known_nodes:{}", self.nodes.len());
        self.until_each_says(&["CLUSTER", "INFO"], &[&all, "cluster_state:ok"]);
        let each = self.replicas().len() / self.primaries;
        for (at, replica) in self.replicas().iter().enumerate() {
            command(replica, &["CLUSTER", "REPLICATE", &self.id(&self.primaries()[at / each])]);
        }
        for replica in self.replicas() {
            until(|| command(replica, &["INFO", "replication"]).contains("master_link_status:up"));
        }
    }

    fn until_each_says(&self, words: &[&str], said: &[&str]) {
        for node in &self.nodes {
            until(|| {
                let answer = command(node, words);
                said.iter().all(|said| answer.lines().any(|line| line.trim_end() == *said))
            });
        }
    }
}

fn until(is_so: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("the nodes of the cluster do not agree");
}

/// The answer to one command, if that is a line or a text.
fn command(node: &RedisServer, words: &[&str]) -> String {
    let ask = || {
        let stream = TcpStream::connect(node.addr())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        (&stream).write_all(format!("{}\r\n", words.join(" ")).as_bytes())?;
        let (mut reader, mut line) = (BufReader::new(&stream), String::new());
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        let Some(length) = line.strip_prefix('$').and_then(|length| length.parse().ok()) else {
            return Ok::<_, std::io::Error>(line);
        };
        let mut text = vec![0; length];
        reader.read_exact(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let answer = ask().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(!answer.starts_with('-'), "{words:?}: {answer}");
    answer
}
