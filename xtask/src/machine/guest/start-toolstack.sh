#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Starts what domain 0 needs to start others: start-toolstack [CONSOLES]. The store, and if a folder is given the daemon that writes there what
# domains print, each to guest-NAME.log.
exec >/dev/console 2>&1
mkdir -p /etc/xen /run/xen /run/xenstored /run/lock /var/lock /var/lib/xen /var/lib/xenstored /var/log/xen
: >/etc/xen/xl.conf
xenstored --pid-file /run/xenstored.pid || exit
for moment in $(seq 100); do
    xenstore-read / >/dev/null 2>&1 && break
    sleep 0.1
done
xen-init-dom0 || exit
[ $# -eq 0 ] && exit
mkdir -p "$1"
xenconsoled --log=guest --log-dir="$1" --pid-file=/run/xenconsoled.pid
