// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the kernel with nothing that it does not bring itself, where the linker script says.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let script = format!("-Wl,-T,{folder}/unikernel.lds");
    let plain = ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"];
    for argument in plain.into_iter().chain(["-Wl,-z,max-page-size=4096", &script]) {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=unikernel.lds");
}
