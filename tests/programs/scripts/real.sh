#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# In place of `evtchn` where /dev/xen/evtchn is real: `real.sh run ...` runs the programs of `evtchn run ...` as they are, all in the
# domain that this is. What asks for more than one domain, or for something that only `evtchn run` does, is refused.
set -u

refuse() {
    echo "real.sh: $1: means nothing on a real device" >&2
    exit 2
}

quoted() {
    printf " '"
    printf %s "$1" | sed "s/'/'\\\\''/g"
    printf "'"
}

[ "${1-}" = run ] || refuse "${1-}"
shift
others=
while [ $# -gt 0 ]; do
    case $1 in
    --domain) [ "$2" = 0 ] || refuse "$1 $2" && shift 2 ;;
    --vcpus) shift 2 ;;
    --)
        shift
        program=
        while [ $# -gt 0 ] && [ "$1" != --and ]; do
            program=$program$(quoted "$1")
            shift
        done
        [ $# -gt 0 ] || break
        shift
        eval "$program &"
        others="$others $!"
        ;;
    *) refuse "$1" ;;
    esac
done
eval "$program"
status=$?
[ -z "$others" ] || kill $others 2>/dev/null
wait
exit $status
