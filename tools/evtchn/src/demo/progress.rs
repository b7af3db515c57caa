// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line on the terminal that tells how far it is.

use std::io::{IsTerminal, Write};

use super::clock::now;

/// Nanoseconds between two changes of the line.
const INTERVAL: u64 = 100_000_000;
/// Wide enough for every text, so that a shorter one leaves nothing of a longer one.
const WIDTH: usize = 72;

/// The line; nothing is shown where stderr is no terminal.
pub struct Progress {
    next: Option<u64>,
}

impl Progress {
    /// A line that does not show yet.
    pub fn new() -> Self {
        Self { next: std::io::stderr().is_terminal().then_some(0) }
    }

    /// Shows the line, if it is time to.
    pub fn show(&mut self, doing: &str, end: u64, sent: u64) {
        let at = now();
        if self.next.is_some_and(|next| at >= next) {
            self.next = Some(at + INTERVAL);
            let left = end.saturating_sub(at) as f64 / 1e9;
            let text = format!("demo: {doing}, {left:.1} s left, {sent} events sent");
            write(&format!("\r{text:WIDTH$}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.next.is_some_and(|next| next > 0) {
            clear();
        }
    }
}

/// Erases a line that another process may have shown.
pub fn clear() {
    write(&erase());
}

/// What erases such a line; nothing where stderr is no terminal.
pub fn erase() -> String {
    if std::io::stderr().is_terminal() { format!("\r{:WIDTH$}\r", "") } else { String::new() }
}

/// A terminal that is gone is no reason to stop.
fn write(text: &str) {
    let _ = write!(std::io::stderr(), "{text}");
}
