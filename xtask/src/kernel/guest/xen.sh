#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Linux's driver, then ours, in domain 0 of one machine: xen.sh SECONDS. The status is the number of parts that failed.
. ./check.sh

for whose in linux ours; do
    [ $whose = linux ] || insmod ./xen-evtchn.ko || exit 1
    part sh driver.sh $whose xen_evtchn "$1"
    part sh end.sh $whose xen_evtchn
done
# The daemon cannot be stopped, so this comes last.
insmod ./xen-evtchn.ko || exit 1
part sh xenstore.sh ours
exit $failures
