#!/usr/bin/env bash
# What hooks cost per published message, and whether that is within bounds: the same load on a broker without plugins, with `acl`'s
# rules, and with an authorizer that is asked about every message and a transform that every message passes, neither of which
# may be cached. Each round has every broker once, in another order; what counts is the median of the rounds' differences. Compiled rules
# cost less than one round is from the next: they are compared in PAIRS of short runs, one behind the other, besides.
# Needs the release build and a quiet machine. ROUNDS, SECONDS_EACH and PAIRS set how long it takes: with 9, 3 and 40 about four minutes.
# Ends with 1 where a bound is exceeded.
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

# measure BROKER SECONDS FILE: one run against it.
measure() {
    "$nervewire" bench pubsub --seconds "$2" --qos 0 --payload 1024 --port "${ports[$1]}" \
        --pid "${pids[$1]}" --json >"$work/run.json" || { cat "$work/run.json" "$work/${names[$1]}.log"; exit 1; }
    cat "$work/run.json" >>"$work/$3.json"
}

rounds=${ROUNDS:-9}
for round in $(seq "$rounds"); do
    for step in 0 1 2 3; do
        broker=$(((round + step) % 4))
        measure $broker "${SECONDS_EACH:-3}" "${names[broker]}"
    done
    printf '\rround %d of %d' "$round" "$rounds" >&2
done
printf '\n' >&2
pairs=${PAIRS:-40}
for pair in $(seq "$pairs"); do
    for step in 0 1; do
        broker=$(((pair + step) % 2))
        measure $broker 1 "pairs-${names[broker]}"
    done
    printf '\rpair %d of %d' "$pair" "$pairs" >&2
done
printf '\n' >&2

cd "$work" && python3 - "$((ports[3] + 1))" "${names[@]}" <<'EOF'
import json, re, statistics, sys, urllib.request

admin_port, names = sys.argv[1], sys.argv[2:]


def runs(name):
    text, decoder, at, found = open(name + ".json").read(), json.JSONDecoder(), 0, []
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        run, at = decoder.raw_decode(text, at)
        assert run["lost"] == 0 and run["duplicated"] == 0, (name, run)
        found.append(run)
    return found


def calls(hook):
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics").read().decode()
    counted = re.findall(r"^nervewire_plugin_calls_total\{([^}]*)\} (\d+)", metrics, re.M)
    return sum(int(n) for labels, n in counted if f'hook="{hook}"' in labels and 'outcome="ok"' in labels)


# Each with the most it may add.
TITLES = {
    "none": ("no plugin", None),
    "default": ("compiled rules: `acl`, one rule", None),
    "twenty": ("compiled rules: `acl`, twenty rules, deliveries judged one by one", None),
    "asked": ("asked authorizer and passing transform", 0.75),
}
PAIRED = ("the same, in pairs", 0.03)


def costs_of(name):
    return [run["broker_cpu_us_per_message"] for run in runs(name)]


costs = {name: costs_of(name) for name in names}
published = sum(run["published"] for run in runs("asked"))
for hook in ("authorize", "transform"):
    assert calls(hook) >= published, f"{hook} was called {calls(hook)} times for {published} messages"

exceeded = False


def line(title, bound, costs, base):
    global exceeded
    added = [cost - without for cost, without in zip(costs, base)]
    middle = statistics.median(added)
    difference = "" if costs is base else f"{middle:+.3f} ({min(added):+.3f} to {max(added):+.3f})"
    verdict = "" if bound is None else "kept" if middle <= bound else "EXCEEDED"
    exceeded |= verdict == "EXCEEDED"
    print(f"| {title} | {statistics.median(costs):.3f} | {difference} | {bound or ''} | {verdict} |")


print("| per published message of 1 KiB, microseconds of the broker's CPU | in all | added (fewest to most) | bound | |")
print("|---|---|---|---|---|")
for name in names:
    line(*TITLES[name], costs[name], costs["none"])
    if name == "default":
        line(*PAIRED, costs_of("pairs-default"), costs_of("pairs-none"))
print(f"{published:,} messages, each asked about and transformed; none lost or duplicated in any run.")
sys.exit(exceeded)
EOF
