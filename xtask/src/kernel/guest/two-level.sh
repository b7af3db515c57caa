#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Linux's driver, then ours, in a domain 0 that uses the two-level ABI. The status is the number of parts that failed.
. ./check.sh

for whose in linux ours; do
    [ $whose = linux ] || insmod ./xen-evtchn.ko || exit 1
    check conformance ./driver-tests --driver $whose conformance
    ./recorder dev-fixed >"$OUT/$whose-fixed.jsonl" || failed "the recorder failed with status $?"
    part sh end.sh $whose xen_evtchn
done
exit $failures
