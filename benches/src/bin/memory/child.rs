//! Measuring in a process of its own, and what the system tells of a process.

use std::io::{Error, ErrorKind, Result};
use std::process::Command;

/// Starts this program once more to measure `task`, and returns the numbers it prints.
pub(crate) fn ask(task: &[&str]) -> Result<Vec<f64>> {
    let output = Command::new(std::env::current_exe()?).arg("--child").args(task).output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::other(format!("measuring {task:?}: {}, {why}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>();
    numbers.map_err(|_| Error::new(ErrorKind::InvalidData, format!("measuring {task:?} said {text:?}")))
}

/// Bytes of memory that are resident now; `None` where no system tells.
pub(crate) fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most that were resident so far.
pub(crate) fn resident_max() -> Option<u64> {
    status("VmHWM:")
}

fn status(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|text| text.strip_prefix(line))?;
    Some(1024 * kilobytes.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_touched_is_resident() {
        let before = resident().unwrap();
        let touched = vec![1_u8; 64 << 20];
        assert!(resident().unwrap() >= before + (60 << 20));
        assert!(resident_max().unwrap() >= before + (60 << 20));
        drop(touched);
    }
}
