#!/bin/busybox sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The first process of the emulated machine: loads the modules, runs the command, hands over what it printed and left, switches off.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin LANG=C HOME=/ OUT=/machine/results
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /t $OUT
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /var
mount -t devpts pts /dev/pts
chmod 1777 /tmp
mount -t tmpfs shm /dev/shm
ln -s ../run /var/run
ip link set lo up 2>/dev/null

while read -r module options; do
    insmod "/machine/modules/$module.ko" $options || echo "machine: cannot load $module"
done </machine/modules/order
grep -q xenfs /proc/filesystems && mount -t xenfs xenfs /proc/xen

# The device of a virtio port.
port() {
    for folder in /sys/class/virtio-ports/*; do
        [ "$(cat "$folder/name" 2>/dev/null)" = "$1" ] && echo "/dev/${folder##*/}" && return
    done
}

# Runs the command and hands its output over as it comes. The pulse says meanwhile that the machine has not stopped.
by_ports() {
    for moment in $(seq 200); do
        status=$(port status) && [ -c "$status" ] && break
        sleep 0.05
    done
    [ -c "$status" ] || { echo "machine: no virtio ports"; return; }
    while sleep 2; do echo; done >"$(port pulse)" &
    /machine/command </dev/null >"$(port stdout)" 2>"$(port stderr)"
    code=$?
    dmesg >$OUT/dmesg.txt
    tar -C $OUT -cf - . >"$(port results)"
    echo $code >"$status"
}

# Runs the command and hands everything over at the end, as text on the console: a domain has nothing else that domain 0 reads.
by_console() {
    mkdir -p /tmp/all/results
    /machine/command </dev/null >/tmp/all/stdout 2>/tmp/all/stderr
    echo $? >/tmp/all/status
    dmesg >$OUT/dmesg.txt
    cp -a $OUT/. /tmp/all/results/
    dmesg -n 1
    echo machine-begin
    tar -C /tmp/all -czf - . | base64
    echo machine-end
}

if [ -e /machine/domu-inside ]; then by_console; else by_ports; fi
echo "machine: done"
sleep 1
poweroff -f
