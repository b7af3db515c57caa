// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line that says what is being waited for.

use std::io::{self, IsTerminal, Write};

/// Shows `line` in place of the one before, on a terminal only. An empty one takes it away.
pub fn line(line: &str) {
    let mut out = io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K{line}");
        let _ = out.flush();
    }
}
