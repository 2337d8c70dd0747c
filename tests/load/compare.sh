#!/usr/bin/env bash
# Nervewire (one shard, and the default), mosquitto and the bare relay under the same loads, one after the other, on this machine.
# Needs the release build and mosquitto; takes about three minutes. SECONDS_EACH sets the length of a run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
nervewire=$PWD/target/release/nervewire
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

# start NAME PORT ADMIN_PORT SHARDS: a broker on the embedded defaults, `acl` active, on another port.
start() {
    "$nervewire" run --print-config |
        sed "s/127.0.0.1:1883/127.0.0.1:$2/; s/127.0.0.1:8080/127.0.0.1:$3/; s/^shards = 0/shards = $4/" >"$work/$1.toml"
    "$nervewire" run --config "$work/$1.toml" 2>"$work/$1.log" &
    pids+=($!)
}

printf 'listener 21883 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n' >"$work/mosquitto.conf"
mosquitto -c "$work/mosquitto.conf" 2>"$work/mosquitto.log" &
pids+=($!)
start one 11884 18081 1
start default 11883 18080 0
"$nervewire" bench relay --port 31883 >"$work/relay.log" 2>&1 &
pids+=($!)
for port in 21883 11884 11883 31883; do
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; done
done

# run NAME PORT PID ARGUMENTS...: one line.
run() {
    local name=$1 port=$2 pid=$3
    shift 3
    "$nervewire" bench pubsub --seconds "${SECONDS_EACH:-4}" --port "$port" --pid "$pid" --json "$@" | python3 -c '
import json, sys
r = json.load(sys.stdin)
print("  %-20s %7.3f us of CPU per message %9.0f messages/s  p99 %8.0f us  lost %d duplicated %d" % (
    sys.argv[1], r["broker_cpu_us_per_message"], r["delivered_per_s"], r["latency_us"]["p99"], r["lost"], r["duplicated"]))
' "$name"
}

scenario() {
    echo "$*"
    run "mosquitto" 21883 "${pids[0]}" "$@"
    run "nervewire, shards=1" 11884 "${pids[1]}" "$@"
    run "nervewire, default" 11883 "${pids[2]}" "$@"
    case " $* " in *" --qos 0 "*) run "relay" 31883 "${pids[3]}" "$@" ;; esac
}

scenario --qos 0
scenario --qos 1
scenario --qos 2
scenario --qos 0 --inflight 1
scenario --qos 0 --payload 1024
scenario --qos 0 --publishers 50 --subscribers 1 --topic-scheme wildcard
scenario --qos 0 --publishers 1 --subscribers 100 --inflight 20 --topic-scheme fan-out
scenario --qos 1 --rate 20000
