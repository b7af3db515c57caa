// SPDX-License-Identifier: MIT OR Apache-2.0
//! Generates a C program that reports numbers, compiles it, and reads the report.

use super::expected::{Expected, Kind};
use super::locate::Headers;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a C program includes and begins with.
pub struct Prelude {
    includes: &'static str,
    body: &'static str,
}

/// `__XEN_TOOLS__` selects the latest interface and shows domctl. `__XEN__` around a single header shows what only Xen
/// itself is meant to see there; what the header includes comes before it.
macro_rules! xen_includes {
    () => {
        "#define __XEN_TOOLS__ 1\n\
         #include <stddef.h>\n\
         #include <stdint.h>\n\
         #include <xen/xen.h>\n\
         #define __XEN__ 1\n\
         #include <xen/event_channel.h>\n\
         #undef __XEN__\n\
         #include <xen/sched.h>\n\
         #include <xen/vcpu.h>\n\
         #include <xen/physdev.h>\n\
         #include <xen/callback.h>\n\
         #include <xen/version.h>\n\
         #include <xen/features.h>\n\
         #include <xen/hvm/hvm_op.h>\n\
         #include <xen/hvm/params.h>\n\
         #include <xen/arch-x86/cpuid.h>\n\
         #include <xen/grant_table.h>\n\
         #include <xen/hvm/save.h>\n\
         #include <xen/memory.h>\n\
         #define __XEN__ 1\n\
         #include <xen/domctl.h>\n\
         #undef __XEN__\n\
         #include <xen/sys/evtchn.h>\n"
    };
}

pub const XEN_64: Prelude = Prelude {
    includes: concat!(
        "#include <stdio.h>\n#include <sys/ioctl.h>\n",
        xen_includes!(),
        "#include <xen/sys/privcmd.h>\n#include <xen/foreign/arm64.h>\n"
    ),
    body: "#define __XEN__ 1\n\
           #define XEN_ERRNO(name, value) EMIT(\"value XEN_\" #name, value);\n\
           #include <xen/errno.h>\n",
};

/// The C library's headers may be missing for 32 bits, so the ioctls' builder is given here, with the layout of a
/// command word that Linux documents.
pub const XEN_32: Prelude = Prelude {
    includes: concat!(
        "#define _IOC_NONE 0u\n\
         #define _IOC(dir, type, nr, size) ((dir) << 30 | (size) << 16 | (type) << 8 | (nr))\n",
        xen_includes!()
    ),
    body: "",
};

/// The C library's headers come first, as they are for this machine.
pub const XEN_ARM64: Prelude = Prelude {
    includes: concat!(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n\
         #undef __x86_64__\n#define __aarch64__ 1\n",
        xen_includes!()
    ),
    body: "",
};

pub const LINUX: Prelude = Prelude {
    includes: "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n\
               typedef uint16_t domid_t;\n#include <xen/evtchn.h>\n",
    body: "",
};

pub const LINUX_ERRNO: Prelude = Prelude {
    includes: "#define _GNU_SOURCE 1\n#include <stddef.h>\n#include <stdio.h>\n#include <errno.h>\n",
    body: "",
};

/// What a program reported: `kind name` to number.
pub struct Report(HashMap<String, u64>);

impl Report {
    /// The number that belongs to an expectation.
    pub fn get(&self, item: &Expected) -> Option<u64> {
        self.0.get(&item.key()).copied()
    }

    /// All reported values whose names begin like this.
    pub fn values(&self, prefix: &str) -> Vec<(&str, u64)> {
        self.0
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("value ")?, *value)))
            .filter(|(name, _)| name.starts_with(prefix))
            .collect()
    }

    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let pair = |line: &str| {
            let (key, value) = line.rsplit_once(' ').expect("a line has a number");
            // Large unsigned numbers come as negative ones, those of 32 bits too if the compiler is a 32-bit one.
            let value: i64 = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            let narrow = (i64::from(i32::MIN)..0).contains(&value);
            (key.to_owned(), if narrow { u64::from(value as u32) } else { value as u64 })
        };
        Self(lines.map(pair).collect())
    }
}

/// Compiles the program for this machine and runs it.
pub fn run(name: &str, headers: &Headers, prelude: &Prelude, expected: &[Expected]) -> Report {
    let emit = "#define EMIT(key, number) printf(\"%s %lld\\n\", key, (long long)(number))\n";
    let source = write_source(name, emit, prelude, expected);
    let program = source.with_extension("");
    compile(&source, &program, headers, &[]);
    let output = Command::new(&program).output().expect("the probe starts");
    assert!(output.status.success(), "{} failed", program.display());
    let text = String::from_utf8(output.stdout).expect("the report is text");
    Report::parse(text.lines())
}

/// Compiles the program to 32-bit assembly without any C library, and reads the numbers from there.
pub fn assemble_32(name: &str, headers: &Headers, prelude: &Prelude, expected: &[Expected]) -> Report {
    let emit = "#define EMIT(key, number) __asm__ volatile (\"->\" key \" %c0\" :: \"i\" (number))\n";
    let source = write_source(name, emit, prelude, expected);
    let assembly = source.with_extension("s");
    compile(&source, &assembly, headers, &["-m32", "-ffreestanding", "-S"]);
    let text = std::fs::read_to_string(&assembly).expect("the assembly is text");
    Report::parse(text.lines().filter_map(|line| line.trim().strip_prefix("->")))
}

fn write_source(name: &str, emit: &str, prelude: &Prelude, expected: &[Expected]) -> PathBuf {
    let mut text = format!("{}{emit}int main(void)\n{{\n{}", prelude.includes, prelude.body);
    for item in expected {
        write_statement(&mut text, item).expect("a string takes everything");
    }
    text.push_str("    return 0;\n}\n");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("headers-{name}.c"));
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

fn write_statement(text: &mut String, item: &Expected) -> std::fmt::Result {
    let emit = format!("    EMIT(\"{}\", {});\n", item.key(), item.expression);
    match (&item.kind, &item.guard) {
        (Kind::Value, _) if item.name == item.expression => {
            write!(text, "#ifdef {}\n{emit}#endif\n", item.name)
        }
        (_, Some(guard)) => write!(text, "#ifdef {guard}\n{emit}#endif\n"),
        _ => text.write_str(&emit),
    }
}

fn compile(source: &Path, target: &Path, headers: &Headers, flags: &[&str]) {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let output = Command::new(&compiler)
        .args(["-std=gnu11", "-O0"])
        .args(flags)
        .arg("-I")
        .arg(headers.folder())
        .arg(source)
        .arg("-o")
        .arg(target)
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {}: {errors}", source.display());
}
