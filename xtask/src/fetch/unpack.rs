// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unpacking packages into a folder: by dpkg-deb where it is installed, else by reading the `ar` container here.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Makes a new root folder at `root` with everything of `debs` in it. An old one is replaced when the new one is complete.
pub fn unpack_all<'a>(debs: impl Iterator<Item = &'a Path>, root: &Path) -> Result<()> {
    let fresh = root.with_extension("new");
    remove(&fresh)?;
    make_root(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    for deb in debs {
        unpack(deb, &fresh).with_context(|| format!("cannot unpack {}", deb.display()))?;
    }
    remove(root)?;
    fs::rename(&fresh, root).with_context(|| format!("cannot move {} into place", fresh.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A root with a merged `/usr`, so that packages of either layout end up in one place.
fn make_root(root: &Path) -> io::Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    Ok(())
}

fn unpack(deb: &Path, root: &Path) -> Result<()> {
    match Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn() {
        Ok(mut dpkg) => {
            let archive = dpkg.stdout.take().context("dpkg-deb has no output")?;
            let extracted = tar(root, archive.into());
            ensure!(dpkg.wait()?.success(), "dpkg-deb failed");
            extracted
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => unpack_by_hand(deb, root),
        Err(error) => Err(error).context("cannot start dpkg-deb"),
    }
}

/// Unpacks without dpkg: tar finds out the compression by itself when it reads from a file.
fn unpack_by_hand(deb: &Path, root: &Path) -> Result<()> {
    let scratch = root.with_extension("data");
    let mut member = data_member(File::open(deb)?)?;
    io::copy(&mut member, &mut File::create(&scratch)?)?;
    let extracted = run_tar(root, &scratch.to_string_lossy(), Stdio::null());
    fs::remove_file(&scratch)?;
    extracted
}

fn tar(root: &Path, archive: Stdio) -> Result<()> {
    run_tar(root, "-", archive)
}

fn run_tar(root: &Path, archive: &str, input: Stdio) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"])
        .arg(root)
        .args(["--file", archive]);
    ensure!(command.stdin(input).status().context("cannot start tar")?.success(), "tar failed");
    Ok(())
}

/// The member `data.tar.*` of a package's `ar` container: an 8-byte magic, then for each member a 60-byte header (the name in the
/// first 16 bytes, the length in decimal at 48) and the contents, padded to an even length.
fn data_member(mut deb: File) -> Result<impl Read> {
    let mut magic = [0; 8];
    deb.read_exact(&mut magic)?;
    ensure!(&magic == b"!<arch>\n", "not a Debian package");
    let mut header = [0; 60];
    while deb.read_exact(&mut header).is_ok() {
        let length: u64 =
            std::str::from_utf8(&header[48..58])?.trim().parse().context("damaged member header")?;
        if header.starts_with(b"data.tar") {
            return Ok(deb.take(length));
        }
        deb.seek(SeekFrom::Current(i64::try_from(length.next_multiple_of(2))?))?;
    }
    bail!("no data in the package")
}
