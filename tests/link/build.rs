// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the programs with nothing that they do not bring themselves: a missing function is an error of the linker.

fn main() {
    // Not position-independent, as nobody is there who would relocate it.
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
