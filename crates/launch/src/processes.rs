// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes below this one.
//!
//! The launcher is a subreaper, so everything it ever started stays below it, daemons included.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::sys;

/// Long enough for the kernel to end any number of killed processes that are not stuck in it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every living descendant of this process, from `/proc`.
pub fn descendants() -> Vec<i32> {
    let children = children_of_all();
    let mut found = Vec::new();
    let mut next = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        let below = children.get(&parent).into_iter().flatten();
        found.extend(below.clone());
        next.extend(below);
    }
    found
}

/// Sends a signal to every descendant.
pub fn signal_descendants(signal: i32) {
    for process in descendants() {
        // One that has ended meanwhile needs no signal.
        let _ = sys::kill(process, signal);
    }
}

/// Kills every descendant, those that appear meanwhile too, and waits until they are gone.
pub fn kill_descendants() {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        signal_descendants(libc::SIGKILL);
        loop {
            match sys::child_change() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn children_of_all() -> HashMap<i32, Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((process, parent)) = process.and_then(|p| Some((p, living_parent(p)?))) {
            children.entry(parent).or_default().push(process);
        }
    }
    children
}

/// The parent of a process that has not ended.
fn living_parent(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything; state and parent follow the last closing one.
    let mut rest = stat.rsplit(") ").next()?.split(' ');
    let state = rest.next()?;
    let parent = rest.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id() as i32;
        assert!(descendants().contains(&id));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants().contains(&id));
    }
}
