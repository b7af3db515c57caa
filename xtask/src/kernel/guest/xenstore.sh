#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Debian's store daemon and lister on the driver that is loaded: xenstore.sh WHOSE
start-toolstack || exit 1
# The kernel's own client talks to the daemon by event channel only.
xenstore-ls -f >"$OUT/$1-xenstore-ls.txt" || exit 1
grep -q '^/local/domain/0/domid' "$OUT/$1-xenstore-ls.txt" || { echo "$1: the store is empty" >&2; exit 1; }
lsevtchn 0 >"$OUT/$1-lsevtchn.txt" || exit 1
grep -q 'Interdomain (Connected)' "$OUT/$1-lsevtchn.txt" || { echo "$1: no channel is connected" >&2; exit 1; }
# The daemon is the only user of the driver. Its name is that of the loader it was started with.
grep evtchn: /proc/interrupts >"$OUT/$1-interrupts.txt" || { echo "$1: no interrupt of the daemon" >&2; exit 1; }
count() { awk '/evtchn:/ { for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }' /proc/interrupts; }
before=$(count)
for round in 1 2 3 4 5; do
    XENSTORED_PATH=/dev/xen/xenbus xenstore-read /local/domain/0/domid >/dev/null || exit 1
done
after=$(count)
echo "events of the daemon: $before before five requests of the kernel's client, $after after" | tee -a "$OUT/$1-interrupts.txt"
[ "$after" -ge $((before + 5)) ] || { echo "$1: too few events" >&2; exit 1; }
