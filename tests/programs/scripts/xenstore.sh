#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# xenstore.sh DIR BIN: speaks with the xenstored that serves DIR/socket, by the xenstore programs of BIN; then ends it.
set -eu
dir=$1 bin=$2
for _ in $(seq 1000); do
    [ -S "$dir/socket" ] && [ -s "$dir/pid" ] && break
    sleep 0.01
done
"$bin/xenstore-write" /tool/evtchn/a one /tool/evtchn/b two
"$bin/xenstore-read" /tool/evtchn/a /tool/evtchn/b
"$bin/xenstore-ls" /tool/evtchn
"$bin/xenstore-rm" /tool/evtchn
"$bin/xenstore-read" /tool/evtchn/a 2>/dev/null || echo removed
kill "$(cat "$dir/pid")"
