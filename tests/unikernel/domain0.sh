#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Domain 0's part: starts the toolstack, then the guest as each of the given types of domain, and prints what each said on its console.
# A guest's lines have its type before them; the last is how its domain ended.
consoles=/tmp/consoles
mkdir -p $consoles /etc/xen /run/xen /run/xenstored /run/lock /var/lock /var/lib/xen /var/lib/xenstored /var/log/xen
: >/etc/xen/xl.conf
{
    xenstored --pid-file /run/xenstored.pid
    for moment in $(seq 50); do
        xenstore-read / >/dev/null 2>&1 && break
        sleep 0.1
    done
    xen-init-dom0
    xenconsoled --log=guest --log-dir=$consoles --pid-file=/run/xenconsoled.pid
} >/dev/console 2>&1

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
    sleep 0.5 # the console daemon writes behind the domain
    tr -d '\r' <$consoles/guest-$type.log | sed "s/^/$type: /"
    grep -o 'has shut down, reason code [0-9]*' /tmp/$type.log | sed "s/^/$type: /"
    grep -q 'has shut down' /tmp/$type.log && continue
    status=1
    cat /tmp/$type.log >&2
    xl dmesg | tail -n 20 >&2
done
exit $status
