#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Linux's driver, then ours, in domain 0 of one machine: xen.sh SECONDS. The status is the number of parts that failed.
parts=0
part() { "$@" || parts=$((parts + 1)); }

for whose in linux ours; do
    [ $whose = linux ] || insmod ./xen-evtchn.ko || exit 1
    part sh driver.sh $whose xen_evtchn "$1"
    if [ $whose = ours ]; then
        ./driver-tests --driver ours hazards >"$OUT/ours-hazards.txt" 2>&1 || {
            parts=$((parts + 1))
            grep FAILED "$OUT/ours-hazards.txt" >&2 || tail -n 5 "$OUT/ours-hazards.txt" >&2
        }
    fi
    part sh end.sh $whose xen_evtchn
done
# The daemon cannot be stopped, so this comes last.
insmod ./xen-evtchn.ko && part sh xenstore.sh ours
exit $parts
