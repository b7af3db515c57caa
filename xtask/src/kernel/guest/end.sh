#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Unloads the driver and reads what the kernel said: end.sh WHOSE MODULE
rmmod "$2" || { echo "$1: cannot be unloaded" >&2; exit 1; }
[ ! -e /dev/xen/evtchn ] || { echo "$1: the node is still there" >&2; exit 1; }
if dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|general protection|closed twice|lockdep|soft lockup|detected stalls' >&2; then
    echo "$1: the kernel complained" >&2
    exit 1
fi
