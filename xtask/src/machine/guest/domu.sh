#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Domain 0's command when the program is to run in a domain: starts the toolstack and the domain, waits for its end, and takes what
# it has printed and left from its console.
log=/tmp/console/guest-domu.log
start-toolstack /tmp/console || { echo "the toolstack does not start" >&2; exit 125; }
{
    : >$log
    tail -f $log | sed '/^machine-begin/,$d; s/^/domU: /' &
    xl create -F /machine/domu/config
} >/dev/console 2>&1 || echo "xl ended with status $?" >&2

mkdir /tmp/all
tr -d '\r' <$log | sed -n '/^machine-begin$/,/^machine-end$/p' | grep -v '^machine-' | base64 -d | tar -C /tmp/all -xzf - 2>/dev/null
cp $log "$OUT/console-domu.txt"
if [ ! -s /tmp/all/status ]; then
    echo "the domain did not finish; its console ended with:" >&2
    tail -n 5 $log >&2
    exit 125
fi
mkdir -p /tmp/all/results
mv /tmp/all/results/dmesg.txt /tmp/all/results/dmesg-domu.txt
cp -a /tmp/all/results/. "$OUT/"
cat /tmp/all/stderr >&2
cat /tmp/all/stdout
exit "$(cat /tmp/all/status)"
