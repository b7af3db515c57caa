#!/bin/busybox sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The first process of a guest of the small VMM: does the job that the kernel's command line names, and switches off.
# The kernel hands what it does not know over as variables: domain, job, and job2 for domain 2. In a job's words commas
# stand for spaces.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t devtmpfs dev /dev
/bin/guest-probe mark 1 # in user space
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
ip link set lo up 2>/dev/null
while read -r module options; do
    insmod "/modules/$module.ko" $options
done </modules/order

dmesg | grep -E -o 'xen:events: Using .*|Hypervisor detected: .*'
echo "processors: $(nproc)"
[ "$domain" = 2 ] && [ -n "$job2" ] && job=$job2
guest-probe mark 2 # begins with its job
IFS=,
set -- $job
IFS=' '
case $1 in
record)
    ORACLE_SETTLE_US=$3 recorder "$2" >/tmp/recording
    status=$?
    guest-probe console </tmp/recording || status=1
    ;;
*)
    guest-probe "$@"
    status=$?
    ;;
esac
guest-probe mark 3 # is done
guest-probe status $status
grep -E 'timer0|HYP:|evtchn' /proc/interrupts
reboot -f
