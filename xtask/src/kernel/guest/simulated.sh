#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The driver with simulated channels, on a machine without Xen: simulated.sh SECONDS. The status is the number of parts that failed.
whose=simulated
. ./check.sh

insmod ./xen-evtchn.ko 2>/tmp/refusal && failed "the driver for Xen was loaded without Xen"
grep -qi 'no such device' /tmp/refusal || failed "without Xen: $(cat /tmp/refusal)"
insmod ./evtchn-sim.ko || exit 1
part sh driver.sh $whose evtchn_sim "$1"
part sh end.sh $whose evtchn_sim
exit $failures
