// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiling the C programs of the folder `c`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Packages, Scratch, skip};

/// One of the C programs.
#[derive(Debug)]
pub struct Source<'a> {
    name: &'a str,
    flags: Vec<String>,
}

impl<'a> Source<'a> {
    /// The program `c/NAME.c`.
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        Self { name, flags: Vec::new() }
    }

    /// Links the program with Debian's own `libxenevtchn.so.1`. The old kind of run path also serves that library's own needs.
    #[must_use]
    pub fn with_libxenevtchn(mut self, packages: &Packages) -> Self {
        let (include, libraries) = (packages.arg("usr/include"), packages.libraries());
        self.flags.extend([
            format!("-I{include}"),
            format!("-L{}", libraries.display()),
            "-lxenevtchn".to_owned(),
        ]);
        self.flags.push(format!("-Wl,--disable-new-dtags,-rpath,{0},-rpath-link,{0}", libraries.display()));
        self
    }

    /// Links the program without shared libraries.
    #[must_use]
    pub fn with_static_libc(mut self) -> Self {
        self.flags.push("-static".to_owned());
        self
    }

    /// Compiles into `scratch` and answers with the program's path; `None` without a C compiler.
    ///
    /// # Panics
    /// If the compiler refuses the program.
    #[must_use]
    pub fn compile(self, scratch: &Scratch) -> Option<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("c");
        let program = scratch.path().join(self.name);
        let mut command = Command::new("cc");
        command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&program);
        command.arg(folder.join(self.name).with_extension("c")).args(&self.flags);
        let Ok(output) = command.output() else {
            skip("no C compiler `cc`");
            return None;
        };
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        Some(text(program))
    }
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
