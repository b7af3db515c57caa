#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Linux's driver, then ours, in a domain 0 that uses the two-level ABI. The status is the number of parts that failed.
parts=0
for whose in linux ours; do
    [ $whose = linux ] || insmod ./xen-evtchn.ko || exit 1
    ./driver-tests --driver $whose conformance >"$OUT/$whose-conformance.txt" 2>&1 || {
        parts=$((parts + 1))
        grep FAILED "$OUT/$whose-conformance.txt" >&2 || tail -n 5 "$OUT/$whose-conformance.txt" >&2
    }
    ./recorder dev-fixed >"$OUT/$whose-fixed.jsonl" || parts=$((parts + 1))
    sh end.sh $whose xen_evtchn || parts=$((parts + 1))
done
exit $parts
