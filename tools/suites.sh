#!/bin/sh
# Makes each suite ($@, targets of make) until one fails, and says at the end how many minutes each took.
set -u
row() { awk -v suite="$1" -v seconds="$2" -v result="$3" 'BEGIN { printf "%-10s %7.1f  %s\n", suite, seconds / 60, result }'; }

table=$(printf '%-10s %7s  %s' suite minutes result) result=passed status=0 begun=$(date +%s)
for suite; do
    start=$(date +%s)
    "${MAKE:-make}" "$suite" || { status=$?; result=failed; }
    table="$table
$(row "$suite" $(($(date +%s) - start)) "$result")"
    [ "$status" = 0 ] || break
done
printf '\n%s\n%s\n' "$table" "$(row total $(($(date +%s) - begun)) "$result")"
exit "$status"
