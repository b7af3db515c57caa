// SPDX-License-Identifier: MIT OR Apache-2.0
//! No code path of a module may lead to a panic, which in a kernel stops the machine: the object may not even name one.

use std::fs;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSymbol};

use super::build::Variant;

/// Parts of the names of functions that panic. Mangled names have the original ones in them.
const PANICS: [&str; 4] = ["panic", "unwrap_failed", "expect_failed", "_fail"];

/// Checks a built module.
///
/// # Errors
/// It names a function that panics.
pub fn check(variant: Variant) -> Result<()> {
    let path = variant.path();
    let object = fs::read(&path).with_context(|| path.display().to_string())?;
    let (symbols, panics) = panicking(&object)?;
    ensure!(panics.is_empty(), "{} can panic: {}", variant.file(), panics.join(", "));
    println!(
        "kernel: {} names {symbols} functions and variables of the kernel, none that panics",
        variant.file()
    );
    Ok(())
}

/// How many symbols an object leaves to others, and those whose names say that they panic, its own among them.
fn panicking(object: &[u8]) -> Result<(usize, Vec<String>)> {
    let file = object::File::parse(object)?;
    let undefined = file.symbols().filter(|symbol| symbol.is_undefined()).count();
    ensure!(undefined > 10, "no object that was ever linked: {undefined} undefined symbols");
    let names = file.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned));
    Ok((undefined, names.filter(|name| PANICS.iter().any(|panic| name.contains(panic))).collect()))
}

#[cfg(test)]
mod tests {
    use object::write::{Object, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};

    use super::*;

    fn with(name: &str) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        for name in (0..20).map(|number| format!("function_{number}")).chain([name.to_owned()]) {
            object.add_symbol(Symbol {
                name: name.into_bytes(),
                value: 0,
                size: 0,
                kind: SymbolKind::Unknown,
                scope: SymbolScope::Unknown,
                weak: false,
                section: SymbolSection::Undefined,
                flags: SymbolFlags::None,
            });
        }
        object.write().unwrap()
    }

    #[test]
    fn functions_that_panic_are_found_by_their_mangled_names() {
        for name in [
            "_RNvNtNtCsbZfwWpAStWS_4core9panicking11panic_const24panic_const_sub_overflow",
            "_RNvNtCsbZfwWpAStWS_4core9panicking18panic_bounds_check",
            "_RNvNtCsbZfwWpAStWS_4core6option13unwrap_failed",
            "_RNvNtNtCsbZfwWpAStWS_4core5slice5index16slice_index_fail",
        ] {
            assert_eq!(panicking(&with(name)).unwrap().1, [name]);
        }
        assert!(panicking(&with("xen_irq_lateeoi")).unwrap().1.is_empty());
    }
}
