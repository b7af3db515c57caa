// SPDX-License-Identifier: MIT OR Apache-2.0
//! The uncompressed kernel in a bzImage: what a VMM boots by the PVH entry.

use std::io::Read;

use anyhow::{Context, Result, bail};
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// Where the setup header has the number of sectors before the protected-mode code, and in that the payload.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The ELF file that is compressed in a bzImage. Debian compresses by xz or zstd.
///
/// # Errors
/// It is no bzImage, or compressed otherwise, or damaged.
pub fn of_bzimage(image: &[u8]) -> Result<Vec<u8>> {
    let payload = payload(image).context("no bzImage")?;
    let mut elf = Vec::new();
    if payload.starts_with(XZ) {
        XzReader::new(payload, false).read_to_end(&mut elf).context("damaged")?;
    } else if payload.starts_with(ZSTD) {
        StreamingDecoder::new(payload)?.read_to_end(&mut elf).context("damaged")?;
    } else {
        bail!("compressed neither by xz nor by zstd");
    }
    Ok(elf)
}

/// The compressed kernel. Behind it are four bytes with the size that it will have, which are part of its length.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let sectors = usize::from(*image.get(SETUP_SECTORS)?);
    let start = (sectors + 1) * SECTOR + number(PAYLOAD_OFFSET)?;
    image.get(start..)?.get(..number(PAYLOAD_LENGTH)?.checked_sub(4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bzimage_is_refused() {
        assert!(of_bzimage(b"MZ").is_err());
        assert!(of_bzimage(&[0; 4096]).is_err());
    }

    #[test]
    fn the_payload_lies_behind_the_setup_sectors_without_its_last_four_bytes() {
        let mut image = vec![0; 4096];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = 10;
        image[1024 + 16..][..6].copy_from_slice(b"kernel");
        assert_eq!(payload(&image).unwrap(), b"kernel");
    }
}
