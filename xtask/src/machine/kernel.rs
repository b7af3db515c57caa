// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel that a machine starts.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// Offsets in the first sector of a kernel's image, as Linux's x86 boot protocol has them: the number of sectors of set-up code
/// without the first, and where behind them the compressed kernel is, and how long.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// A Linux kernel and its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The compressed image (`vmlinuz`, `bzImage`).
    pub image: PathBuf,
    /// The folder of its modules (`lib/modules/RELEASE`).
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel whose packages are unpacked in `root`. Its release is the name of the modules' folder.
    ///
    /// # Errors
    /// There is none.
    pub fn of(root: &Path) -> Result<Self> {
        let all = root.join("usr/lib/modules");
        let missing = || format!("no kernel in {}", all.display());
        let modules = fs::read_dir(&all)
            .ok()
            .and_then(|mut folders| folders.next()?.ok())
            .with_context(missing)?
            .path();
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let places = [modules.join("vmlinuz"), root.join(format!("boot/vmlinuz-{release}"))];
        let image = places.into_iter().find(|image| image.exists()).with_context(missing)?;
        Ok(Self { image, modules })
    }

    /// The kernel itself, which an emulated processor would take seconds to uncompress; the image as it is if that is not understood.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn uncompressed(&self) -> Result<Vec<u8>> {
        let image = fs::read(&self.image).with_context(|| format!("cannot read {}", self.image.display()))?;
        let found = payload(&image).map_or(Ok(None), uncompress);
        let found = found.with_context(|| format!("{}: damaged", self.image.display()))?;
        Ok(found.unwrap_or(image))
    }
}

/// The compressed part of an image.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let start = (usize::from(*image.get(SETUP_SECTORS)?) + 1) * SECTOR + number(PAYLOAD_OFFSET)?;
    image.get(start..start.checked_add(number(PAYLOAD_LENGTH)?)?)
}

/// What is in a payload, if it is compressed in a known way.
fn uncompress(payload: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut contents = Vec::new();
    match payload {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => XzReader::new(payload, false).read_to_end(&mut contents)?,
        [0x1f, 0x8b, ..] => GzDecoder::new(payload).read_to_end(&mut contents)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            StreamingDecoder::new(payload).map_err(io::Error::other)?.read_to_end(&mut contents)?
        }
        _ => return Ok(None),
    };
    Ok(Some(contents))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// An image with one sector of set-up code, and four bytes before its payload.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR + 4];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 4;
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
            .copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn the_kernel_is_found_and_uncompressed() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"kernel").unwrap();
        let image = image(&gzip.finish().unwrap());
        assert_eq!(uncompress(payload(&image).unwrap()).unwrap().unwrap(), b"kernel");
    }

    #[test]
    fn an_unknown_payload_and_a_short_image_are_left_alone() {
        assert!(uncompress(payload(&image(b"\x7fELF")).unwrap()).unwrap().is_none());
        assert!(payload(b"short").is_none());
    }
}
