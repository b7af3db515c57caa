# SPDX-License-Identifier: MIT OR Apache-2.0
# Counting what fails; the scripts beside this one read it. WHOSE driver it is about is in $whose, and $failures is their status.
failures=0

failed() {
    failures=$((failures + 1))
    echo "$whose: $*" >&2
}

# A script that says itself what is wrong.
part() { "$@" || failures=$((failures + 1)); }

# A check by the name of $1, which leaves what it printed in $OUT/WHOSE-NAME.txt.
check() {
    name=$1
    shift
    log=$OUT/$whose-$name.txt
    "$@" >"$log" 2>&1 && return
    failed "$name failed with status $?"
    grep FAILED "$log" >&2 || tail -n 5 "$log" >&2
}
