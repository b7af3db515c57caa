// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the C headers are.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// A folder for the compiler's `-I`.
pub struct Headers(PathBuf);

impl Headers {
    /// Xen's public headers; `None`, and a line that says so, if they are not here.
    pub fn xen() -> Option<Self> {
        if let Some(folder) = std::env::var_os("EVTCHN_XEN_HEADERS").map(PathBuf::from) {
            let found = folder.join(EVENT_CHANNEL_H).is_file();
            assert!(found, "EVTCHN_XEN_HEADERS: {} has no {EVENT_CHANNEL_H}", folder.display());
            return Some(Self(folder));
        }
        let fetched =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian/bookworm/root/usr/include");
        let found = [fetched, "/usr/include".into()].into_iter().find(|f| f.join(EVENT_CHANNEL_H).is_file());
        if found.is_none() {
            SAID_SKIPPED.call_once(|| {
                say("skipped: libxen-dev is not here; `cargo xtask fetch` gets it, or set EVTCHN_XEN_HEADERS")
            });
        }
        found.map(Self)
    }

    /// Linux's header for programs; `None`, and a line that says so, if it is not here.
    pub fn linux() -> Option<Self> {
        let folder = PathBuf::from("/usr/include");
        if folder.join("xen/evtchn.h").is_file() {
            return Some(Self(folder));
        }
        say("skipped: /usr/include/xen/evtchn.h is not here; Debian's linux-libc-dev has it");
        None
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

/// Several tests look for the headers; one line is enough.
static SAID_SKIPPED: Once = Once::new();

const EVENT_CHANNEL_H: &str = "xen/event_channel.h";

/// Prints a line that is seen although the test passes.
pub fn say(line: &str) {
    // The test harness holds back what the print macros write, not what is written here.
    let line = format!("headers: {line}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error is writable");
}
