#!/usr/bin/env bash
# Fuzzes one target for so many seconds, at most 20 minutes, on what earlier campaigns have found; keeps what is new, and adds a line to
# tests/fuzz/LOG.md and to the total in SECURITY.md.
#   tests/fuzz/campaign.sh TARGET SECONDS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

MAX_SECONDS=1200
# Files that the repository keeps of a target, and their largest size in bytes.
MAX_KEPT=100
MAX_INPUT_BYTES=4096
log=tests/fuzz/LOG.md

if [ $# != 2 ] || [ ! -d "tests/fuzz/corpus/$1" ] || [ "$2" -lt 1 ] || [ "$2" -gt $MAX_SECONDS ]; then
    echo "usage: tests/fuzz/campaign.sh TARGET SECONDS, of $(ls tests/fuzz/corpus | tr '\n' ' ')and 1 to $MAX_SECONDS" >&2
    exit 2
fi
target=$1 seconds=$2
host=$(rustc -vV | sed -n 's/^host: //p')
binary=target/fuzz/$host/release/$target
kept=tests/fuzz/corpus/$target
# More than the repository keeps, as long as this directory lives.
found=target/fuzz/campaign/$target
output=target/fuzz/$target.campaign.log

tests/fuzz/build.sh --bin "$target"
mkdir -p "$found"
outcome=0
TIMEFORMAT='%U %S'
spent=$({ time nice -n 19 "$binary" "$found" "$kept" -max_total_time="$seconds" -max_len=$MAX_INPUT_BYTES -timeout=120 -report_slow_units=120 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="target/fuzz/$target-" >"$output" 2>&1; } 2>&1) || outcome=$?
cpu_seconds=$(awk '{ printf "%d", $1 + $2 }' <<<"$spent")
executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$output")
edges=$(grep -o 'cov: [0-9]*' "$output" | tail -n 1 | grep -o '[0-9]*$' || echo 0)
findings=$(grep -c '^artifact_prefix=' "$output" || true)
if [ "$outcome" != 0 ]; then
    tail -n 40 "$output"
    echo "$target found something: target/fuzz/$target-*" >&2
fi

# The fewest that reach as much.
nice -n 19 "$binary" -set_cover_merge=1 -max_len=$MAX_INPUT_BYTES "$kept" "$found" >/dev/null 2>&1 || true
ls -t "$kept" | tail -n "+$((MAX_KEPT + 1))" | while read -r surplus; do
    # Those with names were written by people.
    if [[ $surplus =~ ^[0-9a-f]{40}$ ]]; then rm "$kept/$surplus"; fi
done

printf '| %s | `%s` | %s | %s | %s | %s | %s |\n' "$(date -u +%F)" "$target" "$(git rev-parse --short=10 HEAD)" "$cpu_seconds" \
    "${executions:-0}" "$edges" "$findings" >>"$log"
total=$(awk -F'|' '/^\| 20/ { cpu += $5; runs += 1; executions += $6; findings += $8 } END {
    printf "Fuzzing so far: %d runs, %d CPU-seconds (%.2f CPU-hours), %d executions, %d findings.", runs, cpu, cpu / 3600, executions, findings }' "$log")
sed -i "s/^Fuzzing so far: .*/$total/" SECURITY.md
echo "$target: $cpu_seconds CPU-seconds, ${executions:-0} executions, $edges edges, $findings findings. $total"
exit "$outcome"
