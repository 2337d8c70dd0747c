#!/usr/bin/env bash
# What hooks cost per published message: the same load on a broker without plugins, with `acl`'s rules, and with an authorizer that
# is asked about every message and a transform that every message passes. One after the other, so many rounds; medians.
# Needs the release build. ROUNDS and SECONDS_EACH set how long it takes: with 5 and 3 about a minute and a half.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
nervewire=${NERVEWIRE:-$PWD/target/release/nervewire}
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

cargo build --quiet --locked --profile wasm --target wasm32-wasip2 --manifest-path tests/guests/Cargo.toml \
    --target-dir target/guests -p guest-measured
guest=$PWD/target/guests/wasm32-wasip2/wasm/guest_measured.wasm

# start NAME PORT: a broker with one shard and the plugins that are read from standard input.
start() {
    {
        printf '[broker]\ndata_dir = ""\nshards = 1\n[[listener]]\nbind = "127.0.0.1:%d"\n' "$2"
        printf '[auth]\ndefault = "allow"\n[admin]\nbind = "127.0.0.1:%d"\n' $(($2 + 1))
        cat
    } >"$work/$1.toml"
    "$nervewire" run --config "$work/$1.toml" 2>"$work/$1.log" &
    pids+=($!)
    until (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; do
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$work/$1.log"; exit 1; }
        sleep 0.1
    done
}

plugin() { printf '[[plugin]]\nname = "%s"\ncomponent = "%s"\n%s\n' "$@"; }
prefixes() { for n in $(seq 19); do printf '{ deny = "all", topics = ["area/%d/#"] },\n' "$n"; done; }

names=(none default twenty asked)
ports=(12883 12893 12903 12913)
start none 12883 </dev/null
start default 12893 < <(plugin acl builtin:acl 'config.rules = [{ allow = "both", topics = ["#"] }]')
# Deliveries are judged one by one, too.
start twenty 12903 < <(plugin acl builtin:acl "config.rules = [$(prefixes) { allow = \"all\", topics = [\"#\"] }]")
# A shard that has to wait for the processor in the middle of a call must not fail it here: a call that fails costs its message.
start asked 12913 < <(
    plugin asks "$guest" $'hooks = ["authorize"]\nlimits.call_ms = 1_000'
    plugin passes "$guest" $'hooks = ["transform"]\nlimits.call_ms = 1_000'
)

for _ in $(seq "${ROUNDS:-5}"); do
    for broker in 0 1 2 3; do
        "$nervewire" bench pubsub --seconds "${SECONDS_EACH:-3}" --qos 0 --payload 1024 --port "${ports[broker]}" \
            --pid "${pids[broker]}" --json >"$work/run.json" || { cat "$work/run.json" "$work/${names[broker]}.log"; exit 1; }
        cat "$work/run.json" >>"$work/${names[broker]}.json"
    done
done

cd "$work" && python3 - "${names[@]}" <<'EOF'
import json, statistics, sys

def runs(name):
    text, decoder, at, found = open(name + ".json").read(), json.JSONDecoder(), 0, []
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        run, at = decoder.raw_decode(text, at)
        assert run["lost"] == 0 and run["duplicated"] == 0, (name, run)
        found.append(run["broker_cpu_us_per_message"])
    return found

titles = {
    "none": "no plugin",
    "default": "acl, one rule",
    "twenty": "acl, twenty rules, deliveries judged",
    "asked": "asked authorizer and passing transform",
}
base = statistics.median(runs("none"))
for name in sys.argv[1:]:
    cost = statistics.median(runs(name))
    print("%-40s %7.3f us of CPU per message, %+7.3f" % (titles[name], cost, cost - base))
EOF
