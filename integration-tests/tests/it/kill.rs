//! A process that writes behind its cache and is killed, again and again, at any moment: nothing that it acknowledged is
//! lost, nothing is done twice, and the order of each key is kept.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cachalot_core::Entropy;
use integration_tests::counting::{ADDERS, SUMS, VALUES, value_of};

/// Longer than anything here can take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the process is killed: a hundred times, unless `CACHALOT_KILLS` says otherwise.
fn kills() -> usize {
    std::env::var("CACHALOT_KILLS").map_or(100, |kills| kills.parse().expect("a number"))
}

struct Node {
    child: Child,
    lines: Receiver<String>,
    reader: JoinHandle<()>,
}

impl Node {
    fn start(folder: &Path, fsync: &str, task: &str, from: &[i64]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counter-node"));
        command.arg(folder).args([fsync, task]).args(from.iter().map(i64::to_string));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        let reader = std::thread::spawn(move || {
            loop {
                let mut line = String::new();
                // A line that the kill has cut was not said.
                if out.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                    return;
                }
                tell.send(line.trim_end().to_owned()).expect("somebody listens");
            }
        });
        Self { child, lines, reader }
    }

    /// What it says until it is ready; `None` if it ends before.
    fn rows(&self) -> Option<Vec<String>> {
        let mut rows = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => return Some(rows),
                Ok(line) => rows.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(error) => panic!("{error}; so far: {rows:?}"),
            }
        }
    }

    /// Kills it; all that it has said since.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap();
        self.lines.iter().collect()
    }

    fn ended(mut self) {
        assert!(self.child.wait().unwrap().success());
        self.reader.join().unwrap();
    }
}

/// What the database may hold.
struct Expected {
    /// Of each key: the number of the write that it may show.
    values: Vec<Vec<i64>>,
    /// Of each key: the least and the most.
    sums: Vec<(u64, u64)>,
    acknowledged: usize,
}

impl Expected {
    fn nothing() -> Self {
        Self { values: vec![vec![0]; VALUES as usize], sums: vec![(0, 0); SUMS as usize], acknowledged: 0 }
    }

    /// A number for each key that none of its writes has had.
    fn from(&self) -> Vec<i64> {
        self.values.iter().map(|may| may.iter().max().unwrap() + 1).collect()
    }

    /// It was flushed, so all is settled: what is there is what stays.
    fn see(&mut self, rows: &[String]) {
        let mut seen: BTreeMap<(&str, usize), Option<i64>> = BTreeMap::new();
        for row in rows {
            let words: Vec<&str> = row.split(' ').collect();
            let [table, key, value] = words.as_slice() else { panic!("{row}") };
            seen.insert((table, key.parse().unwrap()), value.parse().ok());
        }
        for (key, may) in self.values.iter_mut().enumerate() {
            for table in ["value", "heedless"] {
                let value = seen.get(&(table, key)).copied().flatten();
                let left: Vec<i64> = may.iter().copied().filter(|n| value_of(*n) == value).collect();
                assert!(!left.is_empty(), "{table} {key} is {value:?}, none of {may:?}: {rows:?}");
                *may = left;
            }
        }
        for (key, (least, most)) in self.sums.iter_mut().enumerate() {
            let sum = seen.get(&("sum", key)).copied().flatten().unwrap_or(0) as u64;
            assert!((*least..=*most).contains(&sum), "sum {key} is {sum}, not in {least}..={most}");
            (*least, *most) = (sum, sum);
        }
    }

    /// It was ready, began with these numbers, and said this until it was killed.
    fn hear(&mut self, from: &[i64], lines: &[String]) {
        for (may, first) in self.values.iter_mut().zip(from) {
            may.push(*first);
        }
        for (_, most) in &mut self.sums {
            *most += ADDERS;
        }
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["put", key, n] => {
                    let n: i64 = n.parse().unwrap();
                    // The next one may have begun.
                    self.values[key.parse::<usize>().unwrap()] = vec![n, n + 1];
                }
                ["add", key] => {
                    let (least, most) = &mut self.sums[key.parse::<usize>().unwrap()];
                    (*least, *most) = (*least + 1, *most + 1);
                }
                _ => panic!("{line}"),
            }
            self.acknowledged += 1;
        }
    }
}

fn killed_at_any_moment(fsync: &str, kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let entropy = Entropy::seeded(kills as u64);
    let within = |longest: Duration| longest.mul_f64(entropy.draw_unit());
    let mut expected = Expected::nothing();
    for _ in 0..kills {
        let from = expected.from();
        let node = Node::start(folder.path(), fsync, "load", &from);
        if entropy.draw_unit() < 0.2 {
            // While it starts, reads its journals and flushes what they owe.
            std::thread::sleep(within(Duration::from_millis(60)));
            let said = node.kill();
            if let Some(ready) = said.iter().position(|line| line == "ready") {
                expected.see(&said[..ready]);
                expected.hear(&from, &said[ready + 1..]);
            }
            continue;
        }
        expected.see(&node.rows().expect("it starts"));
        std::thread::sleep(within(Duration::from_millis(30)));
        expected.hear(&from, &node.kill());
    }
    let node = Node::start(folder.path(), fsync, "look", &[]);
    expected.see(&node.rows().expect("it starts"));
    node.ended();
    assert!(expected.acknowledged > kills, "{} writes in {kills} lives", expected.acknowledged);
    println!("{} acknowledged writes in {kills} lives", expected.acknowledged);
}

#[test]
fn a_hundred_kills_lose_no_acknowledged_write_with_an_fsync_always() {
    killed_at_any_moment("always", kills());
}

/// The end of a process takes nothing that the operating system has: not even with an fsync now and then.
#[test]
fn kills_lose_no_acknowledged_write_with_an_fsync_now_and_then_either() {
    killed_at_any_moment("5", kills() / 5);
}
