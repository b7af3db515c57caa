#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The driver with simulated channels, on a machine without Xen: simulated.sh SECONDS. The status is the number of parts that failed.
parts=0
part() { "$@" || parts=$((parts + 1)); }

insmod ./xen-evtchn.ko 2>/tmp/refusal && { echo "the driver for Xen was loaded without Xen" >&2; parts=1; }
grep -qi 'no such device' /tmp/refusal || { echo "without Xen: $(cat /tmp/refusal)" >&2; parts=1; }
insmod ./evtchn-sim.ko || exit 1
part sh driver.sh simulated evtchn_sim "$1"
./driver-tests --driver simulated hazards >"$OUT/simulated-hazards.txt" 2>&1 || {
    parts=$((parts + 1))
    grep FAILED "$OUT/simulated-hazards.txt" >&2 || tail -n 5 "$OUT/simulated-hazards.txt" >&2
}
part sh end.sh simulated evtchn_sim
exit $parts
