#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Domain 0's part: starts the toolstack, then the guest as each of the given types of domain, and prints what each said on its console.
# A guest's lines have its type before them; the last is how its domain ended.
consoles=/tmp/consoles
start-toolstack $consoles || { echo "the toolstack does not start" >&2; exit 1; }

status=0
for type in "$@"; do
    cat >/tmp/$type.cfg <<END
name = "$type"
type = "$type"
kernel = "/t/unikernel"
memory = 32
vcpus = 1
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
END
    timeout 250 xl create -F /tmp/$type.cfg >/tmp/$type.log 2>&1
    ended=$?
    sleep 0.5 # the console daemon writes behind the domain
    tr -d '\r' <$consoles/guest-$type.log | sed "s/^/$type: /"
    grep -o 'has shut down, reason code [0-9]*' /tmp/$type.log | sed "s/^/$type: /"
    [ $ended = 0 ] && continue
    echo "$type: xl ended with status $ended" >&2
    status=1
    cat /tmp/$type.log >&2
    xl dmesg | tail -n 20 >&2
done
exit $status
