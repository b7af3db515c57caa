// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel modules by name, and in which order they are loaded.
//!
//! What a module depends on is in the module itself (`depends=` in its section `.modinfo`), so no index of the kernel's is needed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lzma_rust2::XzReader;
use object::{Object, ObjectSection};

/// A module as it is loaded.
#[derive(Debug)]
pub struct Module {
    /// Its name, with underscores as the kernel writes it.
    pub name: String,
    /// The file's contents, uncompressed.
    pub contents: Vec<u8>,
}

/// All modules of a kernel.
#[derive(Debug)]
pub struct Tree {
    files: BTreeMap<String, PathBuf>,
}

impl Tree {
    /// The modules below a folder.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn below(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.join("kernel")];
        while let Some(folder) = folders.pop() {
            let entries =
                fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
                    files.insert(name, entry.path());
                }
            }
        }
        Ok(Self { files })
    }

    /// The modules of these names, each after those that it depends on. What is no file is taken to be part of the kernel itself.
    ///
    /// # Errors
    /// A module cannot be read.
    pub fn in_order<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Module>> {
        let mut ordered = Vec::new();
        for name in names {
            self.visit(&kernels_name(name), &mut ordered)?;
        }
        Ok(ordered)
    }

    fn visit(&self, name: &str, ordered: &mut Vec<Module>) -> Result<()> {
        let Some(path) = self.files.get(name).filter(|_| !ordered.iter().any(|module| module.name == name))
        else {
            return Ok(());
        };
        let contents = read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for needed in depends(&contents).with_context(|| format!("{}: damaged", path.display()))? {
            self.visit(&needed, ordered)?;
        }
        ordered.push(Module { name: name.to_owned(), contents });
        Ok(())
    }
}

/// The module in a file of this name: `a-b.ko`, `a-b.ko.xz`.
fn module_name(file: &str) -> Option<String> {
    let name = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(kernels_name(name))
}

fn kernels_name(name: &str) -> String {
    name.replace('-', "_")
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension().is_none_or(|ending| ending != "xz") {
        return Ok(bytes);
    }
    let mut contents = Vec::new();
    XzReader::new(bytes.as_slice(), true).read_to_end(&mut contents)?;
    Ok(contents)
}

/// The modules that a module names as its needs.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    let text = String::from_utf8_lossy(section.data()?).into_owned();
    let needs = text.split('\0').find_map(|entry| entry.strip_prefix("depends=")).unwrap_or_default();
    Ok(needs.split(',').filter(|name| !name.is_empty()).map(kernels_name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_name_has_underscores_and_no_endings() {
        for (file, name) in
            [("xen-evtchn.ko", Some("xen_evtchn")), ("kvm-amd.ko.xz", Some("kvm_amd")), ("modules.dep", None)]
        {
            assert_eq!(module_name(file).as_deref(), name, "{file}");
        }
    }

    /// A module of an object file with nothing but the section that is looked at.
    fn module(depends: &str) -> Vec<u8> {
        use object::write::{Object, StandardSegment};
        use object::{Architecture, BinaryFormat, Endianness, SectionKind};
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let segment = object.segment_name(StandardSegment::Data).to_vec();
        let section = object.add_section(segment, b".modinfo".to_vec(), SectionKind::ReadOnlyData);
        object.append_section_data(section, format!("license=GPL\0depends={depends}\0").as_bytes(), 1);
        object.write().unwrap()
    }

    fn tree(name: &str, modules: &[(&str, &str)]) -> Tree {
        let folder = std::env::temp_dir().join(format!("xtask-modules-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("kernel/deep")).unwrap();
        for (file, depends) in modules {
            fs::write(folder.join("kernel/deep").join(file), module(depends)).unwrap();
        }
        Tree::below(&folder).unwrap()
    }

    #[test]
    fn modules_come_after_their_needs_and_once() {
        let tree = tree("order", &[("a.ko", "b,c"), ("b.ko", "d-e"), ("c.ko", "d-e"), ("d-e.ko", "")]);
        let order: Vec<String> =
            tree.in_order(["c", "a"]).unwrap().into_iter().map(|module| module.name).collect();
        assert_eq!(order, ["d_e", "c", "b", "a"]);
    }

    #[test]
    fn what_is_no_file_is_part_of_the_kernel() {
        assert!(tree("built-in", &[]).in_order(["virtio_console"]).unwrap().is_empty());
    }
}
