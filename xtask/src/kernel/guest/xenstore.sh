#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Debian's store daemon and lister on the driver that is loaded: xenstore.sh WHOSE
mkdir -p /run/xenstored /var/lib/xenstored /var/run
xenstored --pid-file /run/xenstored.pid >/dev/console 2>&1 || exit 1
for moment in $(seq 100); do
    xenstore-read / >/dev/null 2>&1 && break
    sleep 0.1
done
xen-init-dom0 >/dev/console 2>&1
# The kernel's own client talks to the daemon by event channel only.
xenstore-ls -f >"$OUT/$1-xenstore-ls.txt" || exit 1
grep -q '^/local/domain/0/domid' "$OUT/$1-xenstore-ls.txt" || { echo "$1: the store is empty" >&2; exit 1; }
lsevtchn 0 >"$OUT/$1-lsevtchn.txt" || exit 1
grep -q 'Interdomain (Connected)' "$OUT/$1-lsevtchn.txt" || { echo "$1: no channel is connected" >&2; exit 1; }
grep evtchn:xenstored /proc/interrupts >"$OUT/$1-interrupts.txt" || { echo "$1: no interrupt of xenstored" >&2; exit 1; }
count() { awk '/evtchn:xenstored/ { sum += $2 + $3 } END { print sum + 0 }' /proc/interrupts; }
before=$(count)
for round in 1 2 3 4 5; do cat </dev/null; XENSTORED_PATH=/dev/xen/xenbus xenstore-read /local/domain/0/domid >/dev/null; done
echo "events of xenstored: $before before, $(count) after" >>"$OUT/$1-interrupts.txt"
