// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiling the C programs of the folder `c`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Packages, Scratch, skip};

/// The variable that names a folder of [programs compiled beforehand](compile_all), for a machine without a compiler.
const COMPILED: &str = "EVTCHN_PROGRAMS";
/// What a program includes that is linked with libxenevtchn.
const LIBRARY: &str = "#include <xenevtchn.h>";

/// Compiles all programs into a folder, in the variants that the tests ask for, those with libxenevtchn only if there are packages.
///
/// # Panics
/// If the compiler refuses a program, or the folder cannot be read or written.
#[must_use = "false: there is no C compiler"]
pub fn compile_all(packages: Option<&Packages>, folder: &Path) -> bool {
    let names = programs();
    let sources = names.iter().filter_map(|(name, with_library)| match (with_library, packages) {
        (true, packages) => Some(Source::new(name).with_libxenevtchn(packages?)),
        (false, _) => Some(Source::new(name)),
    });
    let statically = Source::new("names").with_static_libc();
    sources.chain([statically]).all(|source| source.compile_into(folder).is_some())
}

/// The programs' names, and whether they use libxenevtchn.
fn programs() -> Vec<(String, bool)> {
    let files = fs::read_dir(folder()).expect("the folder of programs is there");
    let paths = files.map(|file| file.expect("the folder can be read").path());
    let program = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".c")?.to_owned();
        Some((name, fs::read_to_string(&path).ok()?.contains(LIBRARY)))
    };
    paths.filter_map(program).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("c")
}

/// One of the C programs.
#[derive(Debug)]
pub struct Source<'a> {
    name: &'a str,
    /// Added to the name of what is compiled.
    variant: &'static str,
    flags: Vec<String>,
}

impl<'a> Source<'a> {
    /// The program `c/NAME.c`.
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        Self { name, variant: "", flags: Vec::new() }
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
        self.variant = "-static";
        self
    }

    /// Compiles into `scratch` and answers with the program's path; `None` without a C compiler. With `EVTCHN_PROGRAMS`: the
    /// path of what is there.
    ///
    /// # Panics
    /// If the compiler refuses the program, or it was not compiled beforehand.
    #[must_use]
    pub fn compile(self, scratch: &Scratch) -> Option<String> {
        let path = match env::var_os(COMPILED) {
            Some(folder) => {
                let path = Path::new(&folder).join(self.file_name());
                assert!(path.exists(), "{}: not compiled beforehand", path.display());
                path
            }
            None => self.compile_into(scratch.path())?,
        };
        Some(path.to_string_lossy().into_owned())
    }

    fn file_name(&self) -> String {
        format!("{}{}", self.name, self.variant)
    }

    fn compile_into(self, target: &Path) -> Option<PathBuf> {
        let program = target.join(self.file_name());
        let mut command = Command::new("cc");
        command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&program);
        command.arg(folder().join(self.name).with_extension("c")).args(&self.flags);
        let Ok(output) = command.output() else {
            skip("no C compiler `cc`");
            return None;
        };
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        Some(program)
    }
}
