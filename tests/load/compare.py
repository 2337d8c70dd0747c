#!/usr/bin/env python3
"""Nervewire (one shard, and the default), mosquitto and the bare relay under the scenarios of `nervewire bench run`, on this machine.

Every measurement has a fresh broker. All brokers take their turn with a scenario before the next one begins, and all scenarios
before the next repetition; what is printed are medians, as a Markdown table. Needs the release build, and mosquitto in the PATH
or under /usr/sbin.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORT, ADMIN_PORT = 21883, 28080
CPU = ("broker_cpu_us_per_message",)
MESSAGES_CPU = ("messages", *CPU)
P99 = ("latency_us", "p99")
SUBSCRIBE = "subscribe"

# What is in the table: row, scenario, where the figure stands in its report, the bound, and whether more is better.
ROWS = [
    ("10 publishers to 10 subscribers, QoS 0, 100 in flight each", "qos0", CPU, 0.15, False),
    ("the same, QoS 1", "qos1", CPU, 0.30, False),
    ("the same, QoS 2", "qos2", CPU, 0.50, False),
    ("QoS 0, one message in flight each", "one-in-flight", CPU, 6.3, False),
    ("QoS 0, 1 KiB payload", "payload-1k", CPU, 0.30, False),
    ("50 publishers to 1 wildcard subscriber, QoS 0", "fan-in", CPU, 0.15, False),
    ("1 to 100 subscribers, QoS 0, 20 in flight", "fan-out-100", CPU, 0.60, False),
    ("1 to 1,000 subscribers, QoS 0, 5 in flight", "fan-out-1000", CPU, 1.8, False),
    ("1,000 wildcard subscriptions, one match", "wildcards-1k", MESSAGES_CPU, 0.20, False),
    ("100,000 of them", "wildcards-100k", MESSAGES_CPU, 0.30, False),
    ("1,000,000 of them", "wildcards-1m", MESSAGES_CPU, 0.40, False),
    ("1,000 wildcard subscriptions, deep filters", "wildcards-1k-deep", MESSAGES_CPU, 0.20, False),
    ("100,000 of them", "wildcards-100k-deep", MESSAGES_CPU, 0.30, False),
    ("1,000,000 of them", "wildcards-1m-deep", MESSAGES_CPU, 0.40, False),
    ("p99 at 20,000 messages/s, QoS 1 (us)", "latency", P99, None, False),
    ("the same to 100,000 wildcard subscriptions (us)", "storm", ("messages", *P99), None, False),
    ("the same while 100,000 subscriptions/s change (us)", "storm", ("storm", "messages", *P99), None, False),
    ("subscribes per second up to 1,000,000", "wildcards-1m", (SUBSCRIBE, "subscribes_per_s"), 400_000, True),
    ("the same, the last tenth", "wildcards-1m", (SUBSCRIBE, "last_tenth_per_s"), 400_000, True),
    ("the same, deep filters", "wildcards-1m-deep", (SUBSCRIBE, "subscribes_per_s"), 400_000, True),
    ("the same, one per SUBSCRIBE", "subscribe-single", (SUBSCRIBE, "subscribes_per_s"), 400_000, True),
    ("resident bytes per subscription at 1,000,000", "wildcards-1m", (SUBSCRIBE, "resident_bytes_per_subscription"), 300, False),
    ("the same, deep filters", "wildcards-1m-deep", (SUBSCRIBE, "resident_bytes_per_subscription"), 300, False),
    ("resident bytes per idle connection with a subscription", "idle", ("resident_bytes_per_connection",), 1_000, False),
    ("CPU microseconds per connect, 19,000 clients", "connect", ("broker_cpu_us_per_connect",), 20, False),
    ("the same, with a subscription", "idle", ("broker_cpu_us_per_connect",), None, False),
    ("100,000 retained messages: set per second", "retained", ("set_per_s",), 500_000, True),
    ("the same: fetch all by wildcard (s)", "retained", ("fetch_s",), 0.05, False),
]

# The relay knows neither acknowledgements nor retained messages, and one wildcard at the end of a filter.
RELAY_SCENARIOS = {
    "qos0", "one-in-flight", "payload-1k", "fan-in", "fan-out-100", "fan-out-1000",
    "wildcards-1k", "wildcards-100k", "wildcards-1m", "subscribe-single", "idle", "connect",
}  # fmt: skip
BROKERS = ["relay", "relay-tokio", "mosquitto", "one", "default"]
TITLES = {
    "relay": "relay", "relay-tokio": "relay on tokio", "mosquitto": "mosquitto", "one": "`shards = 1`", "default": "default",
}  # fmt: skip


def main():
    arguments = parse_arguments()
    scenarios = list(dict.fromkeys(row[1] for row in ROWS if not arguments.scenario or row[1] in arguments.scenario))
    results = {}
    with tempfile.TemporaryDirectory() as work:
        for repetition in range(arguments.repetitions):
            for scenario in scenarios:
                for broker in arguments.brokers:
                    if broker.startswith("relay") and scenario not in RELAY_SCENARIOS:
                        continue
                    entry = measure(arguments, broker, scenario, Path(work))
                    results.setdefault((broker, scenario), []).append(entry)
                    note = "" if entry["passed"] else f"  FAILED {entry['error'] or ''}"
                    print(f"{repetition + 1}: {scenario} {broker}{note}", file=sys.stderr, flush=True)
    if arguments.json:
        everything = [{"broker": broker, **entry} for (broker, _), entries in results.items() for entry in entries]
        arguments.json.write_text(json.dumps(everything, indent=1))
    print(heading(arguments))
    print(table(arguments.brokers, scenarios, results))
    print(failures(results))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help="scenarios of `nervewire bench run` [default: all in the table]")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="length of a measurement")
    parser.add_argument("--brokers", nargs="+", choices=BROKERS, default=["relay", "mosquitto", "one", "default"])
    parser.add_argument("--nervewire", type=Path, default=ROOT / "target/release/nervewire", help="the broker")
    parser.add_argument("--generator", type=Path, help="the binary whose `bench` is used [default: the broker's]")
    parser.add_argument("--json", type=Path, help="file for all reports")
    arguments = parser.parse_args()
    arguments.generator = arguments.generator or arguments.nervewire
    unknown = set(arguments.scenario) - {row[1] for row in ROWS}
    if unknown:
        parser.error(f"not in the table: {', '.join(sorted(unknown))}")
    return arguments


def measure(arguments, broker, scenario, work):
    process = start(arguments, broker, work)
    try:
        wait_until_listening(process)
        settle(arguments)
        command = [arguments.generator, "bench", "run", scenario, "--json", "--port", str(PORT), "--pid", str(process.pid)]
        command += ["--seconds", str(arguments.seconds), "--warm-up", "0.5"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.stdout:
            sys.exit(f"{scenario} on {broker}: {done.stderr}")
        return json.loads(done.stdout)[0]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def settle(arguments):
    """What a broker used for its start it gives back with the first traffic: not to be counted against what is measured."""
    command = [arguments.generator, "bench", "idle", "--clients", "1000", "--port", str(PORT)]
    subprocess.run(command, capture_output=True)


def start(arguments, broker, work):
    if broker.startswith("relay"):
        runtime = "tokio" if broker == "relay-tokio" else "mio"
        command = [arguments.generator, "bench", "relay", "--port", str(PORT), "--connections", "19500", "--runtime", runtime]
    elif broker == "mosquitto":
        # Its bounds on queues are lifted, so that it loses nothing; nothing is stored, as by default.
        config = work / "mosquitto.conf"
        config.write_text(
            f"listener {PORT} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
        )
        command = [mosquitto(), "-c", config]
    else:
        # The embedded defaults: `acl` is asked about every message.
        config = work / f"{broker}.toml"
        config.write_text(nervewire_config(arguments.nervewire, shards=1 if broker == "one" else 0))
        command = [arguments.nervewire, "run", "--config", config]
    with open(work / f"{broker}.log", "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=work)


def nervewire_config(nervewire, shards):
    text = subprocess.run([nervewire, "run", "--print-config"], capture_output=True, text=True, check=True).stdout
    for old, new in [
        ("127.0.0.1:1883", f"127.0.0.1:{PORT}"),
        ("127.0.0.1:8080", f"127.0.0.1:{ADMIN_PORT}"),
        ("shards = 0 ", f"shards = {shards} "),
    ]:
        assert old in text, old
        text = text.replace(old, new)
    return text


def mosquitto():
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return found or sys.exit("mosquitto is not installed")


def wait_until_listening(process):
    for _ in range(1_000):
        if process.poll() is not None:
            sys.exit(f"the broker ended at once: {process.args}")
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"the broker does not listen: {process.args}")


def heading(arguments):
    cpus = os.cpu_count()
    date = time.strftime("%Y-%m-%d")
    text = f"## {date}, {cpus} cores"
    if "mosquitto" in arguments.brokers:
        version = subprocess.run([mosquitto(), "-h"], capture_output=True, text=True).stdout.split("\n")[0].split()[-1]
        text += f", mosquitto {version}"
    return f"{text}; medians of {arguments.repetitions}, {arguments.seconds:g} s each\n"


def table(brokers, scenarios, results):
    ratios = [name for name in ("relay", "mosquitto") if name in brokers and "one" in brokers]
    titles = [f"of {TITLES[name]}" for name in ratios] + [TITLES[name] for name in brokers] + ["bound"]
    lines = [["scenario", *titles], ["---"] * (len(titles) + 1)]
    for label, scenario, path, bound, more_is_better in ROWS:
        if scenario in scenarios:
            medians = {name: median(results.get((name, scenario), []), path) for name in brokers}
            cells = [ratio(medians["one"], medians[name]) for name in ratios]
            cells += [number(medians[name]) for name in brokers]
            sign = "≥ " if more_is_better else "≤ "
            lines.append([label, *cells, "" if bound is None else sign + number(bound)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def median(entries, path):
    figures = []
    for entry in entries:
        figure = entry["report"]
        for key in path:
            figure = None if figure is None else figure[key]
        if figure is not None:
            figures.append(figure)
    return statistics.median(figures) if figures else None


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if ours is not None and theirs else ""


def number(value):
    if value is None:
        return ""
    if value >= 1_000:
        return f"{round(value, 2 - len(str(int(value)))):,.0f}" if value >= 100_000 else f"{value:,.0f}"
    return f"{value:.3g}"


def failures(results, titles=TITLES):
    lines = []
    for (broker, scenario), entries in results.items():
        failed = [entry for entry in entries if not entry["passed"]]
        if failed:
            why = failed[0]["error"] or why_failed(failed[0]["report"])
            lines.append(f"- {scenario}, {titles[broker]}: {len(failed)} of {len(entries)} runs failed: {why}")
    return "\n" + ("\n".join(lines) if lines else "Nothing was lost or duplicated in any run.")


def why_failed(report):
    """The counts that are not as they should be, wherever they stand in the report."""
    bad = {}
    for key, value in report.items():
        if isinstance(value, dict):
            bad.update(why_failed(value))
        elif key in ("lost", "duplicated", "foreign", "refused", "failed", "dropped", "failure") and value:
            bad[key] = value
    return bad


if __name__ == "__main__":
    main()
