#!/usr/bin/env python3
"""Durable sessions: Nervewire with each `durability`, and mosquitto with persistence, under the same loads, on this machine.

`throughput` runs the scenarios `durable-*` of `nervewire bench run`; all brokers take their turn before the next repetition, and
what is printed are medians. `queue` queues messages for durable sessions that are offline, kills the broker with SIGKILL, starts
it again, and lets every session collect its messages. Needs the release build, and mosquitto in the PATH or under /usr/sbin.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compare

BROKERS = ["memory", "os", "fsync", "mosquitto"]
TITLES = {
    "memory": "`memory`", "os": "`os`", "fsync": "`fsync`", "mosquitto": "mosquitto, persistence",
}  # fmt: skip
SCENARIOS = ["durable-qos1", "durable-qos1-single"]
# Row, scenario, where the figure stands in its report.
ROWS = [
    ("100 publishers to 100 durable sessions, QoS 1, 10 in flight each: messages/s", "durable-qos1", ("delivered_per_s",)),
    ("the same, CPU microseconds per message", "durable-qos1", compare.CPU),
    ("the same, p99 (us)", "durable-qos1", compare.P99),
    ("1 publisher to 1 durable session, one message in flight: messages/s", "durable-qos1-single", ("delivered_per_s",)),
    ("the same, CPU microseconds per message", "durable-qos1-single", compare.CPU),
]
# Client identifiers and topics of the queues, which two processes share.
PREFIXES = ["--client-prefix", "queue-", "--topic-prefix", "queue"]


def main():
    arguments = parse_arguments()
    # On the disk beside the build: a temporary directory may be in memory, where a sync costs nothing.
    arguments.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as work:
        {"throughput": throughput, "queue": queue}[arguments.what](arguments, Path(work))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "queue"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="length of a measurement of throughput")
    parser.add_argument("--sessions", type=int, default=1_000, help="of queue")
    parser.add_argument("--each", type=int, default=1_000, help="messages for each session of queue")
    parser.add_argument("--brokers", nargs="+", choices=BROKERS, help="[default: all; for queue: fsync]")
    parser.add_argument("--nervewire", type=Path, default=compare.ROOT / "target/release/nervewire", help="the broker")
    parser.add_argument("--dir", type=Path, default=compare.ROOT / "target/durable", help="where the brokers store")
    parser.add_argument("--json", type=Path, help="file for all reports of throughput")
    return parser.parse_args()


def throughput(arguments, work):
    brokers = arguments.brokers or BROKERS
    results, rates = {}, []
    for repetition in range(arguments.repetitions):
        rates.append(syncs_per_s(work))
        for scenario in SCENARIOS:
            for broker in brokers:
                entry = measure(arguments, broker, scenario, work)
                results.setdefault((broker, scenario), []).append(entry)
                note = "" if entry["passed"] else f"  FAILED {entry['error'] or ''}"
                print(f"{repetition + 1}: {scenario} {broker}{note}", file=sys.stderr, flush=True)
    if arguments.json:
        everything = [{"broker": broker, **entry} for (broker, _), entries in results.items() for entry in entries]
        arguments.json.write_text(json.dumps(everything, indent=1))
    print(table(brokers, results))
    print(f"\nThe disk: {compare.number(sorted(rates)[len(rates) // 2])} writes of 200 bytes with fdatasync per second.")
    print(compare.failures(results, TITLES))


def syncs_per_s(work, seconds=0.5):
    """What one writer that waits for each of its syncs reaches: no single publisher can be faster."""
    path = work / "syncs"
    with open(path, "wb", buffering=0) as file:
        file.truncate(64 << 20)
        count, begun = 0, time.monotonic()
        while time.monotonic() - begun < seconds:
            file.write(bytes(200))
            os.fdatasync(file.fileno())
            count += 1
    path.unlink()
    return count / seconds


def measure(arguments, broker, scenario, work):
    home = fresh_home(work)
    process = start(arguments, broker, home)
    try:
        compare.wait_until_listening(process)
        command = [arguments.nervewire, "bench", "run", scenario, "--json", "--port", str(compare.PORT)]
        command += ["--pid", str(process.pid), "--seconds", str(arguments.seconds), "--warm-up", "0.5"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.stdout:
            sys.exit(f"{scenario} on {broker}: {done.stderr}")
        return json.loads(done.stdout)[0]
    finally:
        kill(process)


def queue(arguments, work):
    for broker in arguments.brokers or ["fsync"]:
        home = fresh_home(work)
        process = start(arguments, broker, home)
        try:
            compare.wait_until_listening(process)
            time.sleep(1)
            idle = resident_mib(process.pid)
            filled = half(arguments, "fill", process)
            time.sleep(2)
            queued, stored = resident_mib(process.pid), stored_mb(home)
            kill(process)
            begun = time.monotonic()
            process = start(arguments, broker, home)
            compare.wait_until_listening(process)
            restart = time.monotonic() - begun
            time.sleep(2)
            restarted = resident_mib(process.pid)
            collected = half(arguments, "collect", process)
        finally:
            kill(process)
        print(f"{broker}: {filled['messages']:,} messages for {filled['sessions']:,} sessions")
        print(f"  queued {filled['fill']['per_s']:,.0f}/s; resident {idle:.1f} MiB idle, {queued - idle:+.1f} MiB filled")
        print(f"  {stored:.0f} MB stored; killed; listening again after {restart:.2f} s, {restarted - idle:+.1f} MiB then")
        counts = [f"{name} {collected[name]}" for name in ("lost", "duplicated", "reordered", "foreign")]
        print(f"  collected {collected['collect']['per_s']:,.0f}/s: {', '.join(counts)}", flush=True)


def half(arguments, step, process):
    command = [arguments.nervewire, "bench", "queue", "--step", step, *PREFIXES, "--json", "--port", str(compare.PORT)]
    command += ["--sessions", str(arguments.sessions), "--each", str(arguments.each), "--pid", str(process.pid)]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout else sys.exit(f"{step}: {done.stderr}")


def fresh_home(work):
    home = work / "broker"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    return home


def start(arguments, broker, home):
    config = home / "config"
    if broker == "mosquitto":
        # It stores when it ends, and every `autosave_interval` seconds.
        config.write_text(
            f"listener {compare.PORT} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
            f"persistence true\npersistence_location {home}/\nautosave_interval 1800\n"
        )
        command = [compare.mosquitto(), "-c", config]
    else:
        config.write_text(nervewire_config(arguments.nervewire, broker))
        command = [arguments.nervewire, "run", "--config", config]
    with open(home / "log", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=home)


def nervewire_config(nervewire, durability):
    """The defaults but for ports and durability, and queues long enough."""
    values = {
        "durability": f'"{durability}"', "data_dir": '"data"', "queue_messages": "100_000",
    }  # fmt: skip
    lines = compare.nervewire_config(nervewire, shards=0).split("\n")
    for key, value in values.items():
        at = [number for number, line in enumerate(lines) if line.lstrip("# ").split("=")[0].strip() == key]
        assert len(at) == 1, key
        lines[at[0]] = f"{key} = {value}"
    return "\n".join(lines)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().split("\n"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    sys.exit("the broker has ended")


def stored_mb(home):
    return sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_file()) / 1e6


def table(brokers, results):
    ratios = [(broker, "memory") for broker in brokers if broker != "memory" and "memory" in brokers]
    titles = [TITLES[name] for name in brokers] + [f"{name} of memory" for name, _ in ratios]
    lines = [["", *titles], ["---"] * (len(titles) + 1)]
    for label, scenario, path in ROWS:
        medians = {name: compare.median(results[name, scenario], path) for name in brokers}
        cells = [compare.number(medians[name]) for name in brokers]
        cells += [compare.ratio(medians[name], medians[base]) for name, base in ratios]
        lines.append([label, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
