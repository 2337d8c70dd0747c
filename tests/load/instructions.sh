#!/bin/bash
# Instructions per operation of the micro-benchmarks, counted by callgrind: unlike times they are nearly the same in every run.
# Each operation runs N and 2N times in processes of their own; what they differ by, over N, is free of what prepares it.
set -euo pipefail
cd "$(dirname "$0")/../.."

N=${1:-500}
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

build() { # package, benchmark: answers the program
    cargo bench --no-run --message-format=json -p "$1" --bench "$2" | python3 -c '
import json, sys
artifacts = [json.loads(line) for line in sys.stdin]
print(next(a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == sys.argv[1]))' "$2"
}

instructions() { # program, operation, repetitions
    OPERATION=$2 REPEAT=$3 valgrind --tool=callgrind --callgrind-out-file="$counts/out" "$1" 2>"$counts/log" ||
        { cat "$counts/log" >&2; return 1; }
    awk '/^(summary|totals):/ { print $2; exit }' "$counts/out"
}

table() { # program
    OPERATION=list "$1" | while read -r operation; do
        once=$(instructions "$1" "$operation" "$N")
        twice=$(instructions "$1" "$operation" $((2 * N)))
        printf '| %s | %d |\n' "$operation" $(((twice - once) / N))
    done
}

codec=$(build nervewire-codec codec)
session=$(build nervewire-core session)
rewrite=$(build nervewire-plugin-rewrite transform)
printf '| operation | instructions |\n|---|---|\n'
table "$codec"
table "$session"
table "$rewrite"
