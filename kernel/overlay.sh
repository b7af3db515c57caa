#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Adds to Debian's package of kernel headers what modules in Rust need beyond it: the metadata of the kernel's own crates, the
# compiled procedural macros and the target's description. They are built from the kernel's source, as Debian built them; the
# kernel itself is not.
#
#   overlay.sh [RELEASE]       RELEASE as `uname -r` prints it, and the running kernel's without it
#
# It writes to /usr/src/linux-headers-RELEASE and takes some minutes and 2.5 GB in a temporary folder (TMPDIR). It needs the
# packages linux-headers-RELEASE, linux-source-X.Y, rust-src, bindgen, bc, bison, flex, libelf-dev, libssl-dev, pahole, kmod and
# python3, and exactly the versions of rustc and gcc that the kernel was built with: names of symbols contain the former's.
set -euo pipefail

release=${1:-$(uname -r)}
headers=/usr/src/linux-headers-$release
series=$(cut -d. -f1,2 <<<"$release")
archive=/usr/src/linux-source-$series.tar.xz

fail() { echo "overlay: $*" >&2; exit 1; }
# The value of a text option of the kernel's configuration.
option() { sed -n "s/^CONFIG_$1=\"\(.*\)\"$/\1/p" "$headers/.config"; }

[ -e "$headers/.config" ] || fail "no $headers (package linux-headers-$release)"
grep -q '^CONFIG_RUST=y' "$headers/.config" || fail "$release was built without Rust: it can have no modules in Rust"
[ ! -e "$headers/rust/libkernel.rmeta" ] || { echo "overlay: $headers has it already"; exit 0; }
[ -e "$archive" ] || fail "no $archive (package linux-source-$series)"
wanted=$(option RUSTC_VERSION_TEXT)
# The text in parentheses behind the commit says how the compiler was built, and is part of what must agree.
[ "$(rustc --version)" = "$wanted" ] || fail "the kernel was built with $wanted, here is $(rustc --version)"
compiler=$(option CC_VERSION_TEXT | cut -d' ' -f1)

folder=$(mktemp -d "${TMPDIR:-/tmp}/evtchn-overlay.XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo "overlay: unpacking $archive"
tar -xf "$archive"
cd "linux-source-$series"
cp "$headers/.config" "$headers/Module.symvers" .
printf '%s' "+${release#*+}" >localversion
kbuild() { make -s -j"$(nproc)" CC="$compiler" "$@"; }
echo "overlay: configuring"
kbuild olddefconfig
[ "$(kbuild kernelrelease)" = "$release" ] || fail "the source is of $(kbuild kernelrelease), not of $release"
kbuild rustavailable
echo "overlay: building the kernel's crates"
kbuild prepare

# Every symbol that our build of the kernel's crates exports must be one that the kernel has, by the same hashed name.
sed -n 's/^EXPORT_SYMBOL_RUST_GPL(\([^)]*\)).*/\1/p' rust/exports_*_generated.h | sort -u >"$folder/ours"
cut -f2 "$headers/Module.symvers" | sort -u >"$folder/theirs"
missing=$(comm -23 "$folder/ours" "$folder/theirs" | wc -l)
[ "$missing" = 0 ] || fail "$missing symbols of the kernel's crates are not in the kernel: another compiler or source"
echo "overlay: $(wc -l <"$folder/ours") symbols of the kernel's crates, all in the kernel"

mkdir -p "$headers/rust/kernel"
cp rust/kernel/generated_arch_*.rs "$headers/rust/kernel/"
cp scripts/target.json "$headers/scripts/"
cp rust/lib*.so rust/lib*.rmeta "$headers/rust/"
echo "overlay: added to $headers"
