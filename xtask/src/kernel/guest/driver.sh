#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Everything that the driver which is loaded is asked on one machine: driver.sh WHOSE MODULE SECONDS
# The status is the number of failures.
whose=$1 module=$2 seconds=$3
. ./check.sh

loaded() { lsmod | grep -q "^$module "; }

check conformance ./driver-tests --driver "$whose" conformance
check many ./driver-tests --driver "$whose" many
check hammer ./driver-tests --driver "$whose" hammer "$seconds"

# Unloading, while a program uses the driver and afterwards.
mkfifo /tmp/hold-$whose
./driver-tests hold </tmp/hold-$whose >"$OUT/$whose-hold.txt" 2>&1 &
exec 3>/tmp/hold-$whose
while ! grep -q ready "$OUT/$whose-hold.txt"; do sleep 0.1; done
for attempt in 1 2 3 4 5; do
    rmmod "$module" 2>/tmp/refusal && failed "it was unloaded under an open file"
    grep -qi "temporarily unavailable\|busy" /tmp/refusal || failed "unloading was refused otherwise: $(cat /tmp/refusal)"
    sleep 0.1
done
loaded || failed "it is not loaded any more"
exec 3>&-
wait $! || failed "the traffic failed: $(tail -n 1 "$OUT/$whose-hold.txt")"

# What stops a machine with Linux's driver.
[ "$whose" = linux ] || check hazards ./driver-tests --driver "$whose" hazards
exit $failures
