#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Both drivers on a machine with one CPU, whose time stamps count instructions: what calls cost, and what the recorder sees. Each
# event has come when the call that raised it returns, and time passes at once where all sleep: one-cpu.sh SEQUENCES
export ORACLE_NO_MASKS=1
for whose in linux ours; do
    [ $whose = linux ] || insmod ./xen-evtchn.ko || exit 1
    ./driver-tests --driver $whose cost >"$OUT/$whose-cost.txt" || exit 1
    ./recorder dev-fixed >"$OUT/$whose-fixed.jsonl" || exit 1
    ORACLE_SETTLE_US=0 ./recorder dev-random 20 "$1" 60 >"$OUT/$whose-random.jsonl" || exit 1
    sh end.sh $whose xen_evtchn || exit 1
done
