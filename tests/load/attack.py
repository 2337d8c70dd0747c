#!/usr/bin/env python3
"""Nervewire under attack, on this machine: what those who behave notice of it, and what it costs the broker.

A fresh broker with a configuration of its own serves a measured load (`nervewire bench pubsub`), first in quiet and then while
others attack: half-open connections, connections that send a byte now and then, a flood of PUBLISH packets from one client, a
subscriber that never reads what is flooded, malformed packets. Attackers come from 127.0.0.2 and up, those who behave from
127.0.0.1. At the end the verdicts:

- the 99th percentile of the latency of those who behave is at most three times that in quiet,
- and at most three times that of the same load on a second broker, which nobody attacks, at the same time: what the two have in
  common is the machine's doing, whose processors all of this shares,
- the broker's resident memory never exceeded the bound (640 MiB, at memory_bytes = 512 MiB),
- all messages of those who behave arrived,
- it is the same process, and it serves.

With --pressure others attack, until memory_bytes is used up and the broker has to shed: many subscribers that never read, half of them
with durable sessions, and publishers without a rate that fill their queues with large messages. Then there is a verdict more: the
bound was hit.

With --hellos others begin TLS handshakes at this rate and never go on: each costs the broker a signature, and them nothing. The key is of
RSA, the most expensive kind; it is made by `openssl`.

Only the standard library. Needs a build: --binary target/release/nervewire. Numbers are of the machine that all of this shares:
the broker, the measured load and the attackers. Exit code 1 where a verdict fails.
"""

import argparse
import json
import os
import resource
import selectors
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORT, ADMIN_PORT, TLS_PORT = 22883, 29080, 28883
BESIDE_PORT, BESIDE_ADMIN_PORT, BESIDE_TLS_PORT = 22884, 29081, 28884
MIB = 1 << 20
FLOOD_TOPIC = b"flood/t"

CONFIGURATION = """
[broker]
data_dir = ""
durability = "memory"
shards = {shards}

[[listener]]
bind = "127.0.0.1:{port}"

[auth]
anonymous = "loopback"
default = "allow"

[limits]
memory_bytes = 536_870_912
retained_bytes = 33_554_432
connect_timeout_ms = {connect_timeout_ms}
publish_rate_per_s = {publish_rate_per_s}
connections_per_address = {connections_per_address}
connect_rate_per_s_per_address = {connect_rate_per_s}

[admin]
bind = "127.0.0.1:{admin_port}"
"""


TLS_LISTENER = """
[[listener]]
bind = "127.0.0.1:{tls_port}"
tls.cert = "cert.pem"
tls.key = "key.pem"
"""


def main():
    args = arguments()
    make_room_for_files(args)
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(args, Path(directory) / "attacked", PORT, ADMIN_PORT, TLS_PORT)
        beside = Broker(args, Path(directory) / "beside", BESIDE_PORT, BESIDE_ADMIN_PORT, BESIDE_TLS_PORT)
        try:
            broker.start()
            beside.start()
            report(args, broker, attack(args, broker, beside))
        finally:
            broker.stop()
            beside.stop()
            print(f"log of the broker: {len(broker.log())} lines", file=sys.stderr)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/nervewire")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement, in quiet and under attack")
    parser.add_argument("--half-open", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=5_000)
    parser.add_argument("--malformed", type=int, default=100_000)
    parser.add_argument("--flood-rate", type=int, default=1_000_000, help="PUBLISH packets per second offered by one client")
    parser.add_argument("--rate", type=int, default=1_000, help="messages per second of those who behave")
    parser.add_argument("--qos", type=int, default=1)
    parser.add_argument("--shards", type=int, default=0)
    parser.add_argument("--connect-timeout-ms", type=int, default=10_000)
    parser.add_argument("--publish-rate-per-s", type=int, help="limits.publish_rate_per_s (5,000; with --pressure 0: none)")
    parser.add_argument("--pressure", action="store_true", help="use up the memory instead of flooding")
    parser.add_argument("--hellos", type=int, default=0, help="begin so many TLS handshakes per second instead")
    parser.add_argument("--hoarders", type=int, default=200, help="of --pressure: subscribers that never read")
    parser.add_argument("--payload-bytes", type=int, default=65_536, help="of --pressure: of each message for them")
    parser.add_argument("--connections-per-address", type=int, default=2_000, help="limits.connections_per_address")
    parser.add_argument("--connect-rate-per-s", type=int, default=400, help="limits.connect_rate_per_s_per_address")
    parser.add_argument("--times", type=float, default=3.0, help="bound of the latency, in times of that in quiet")
    parser.add_argument("--rss-mib", type=int, default=640, help="bound of the resident memory")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.binary.exists():
        parser.error(f"{args.binary} does not exist: cargo build --release, or --binary FILE")
    if args.publish_rate_per_s is None:
        args.publish_rate_per_s = 0 if args.pressure else 5_000
    return args


def make_room_for_files(args):
    wanted = args.half_open + args.slow + 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        sys.exit(f"the open-file limit is {hard}: {wanted} are needed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Broker:
    def __init__(self, args, directory, port, admin_port, tls_port):
        self.args, self.directory, self.process = args, directory, None
        self.port, self.admin_port, self.tls_port = port, admin_port, tls_port

    def start(self):
        keys = {
            "port": self.port,
            "admin_port": self.admin_port,
            "tls_port": self.tls_port,
            "shards": self.args.shards,
            "connect_timeout_ms": self.args.connect_timeout_ms,
            "publish_rate_per_s": self.args.publish_rate_per_s,
            "connections_per_address": self.args.connections_per_address,
            "connect_rate_per_s": self.args.connect_rate_per_s,
        }
        self.directory.mkdir()
        file = self.directory / "nervewire.toml"
        configuration = CONFIGURATION
        if self.args.hellos:
            configuration += TLS_LISTENER
            self.make_certificate()
        file.write_text(configuration.format(**keys))
        with open(self.directory / "log", "wb") as log:
            command = [self.args.binary, "run", "--config", file]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + 60
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit("the broker does not start:\n" + "\n".join(self.log()))
            time.sleep(0.1)

    def make_certificate(self):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
        files = ["-keyout", self.directory / "key.pem", "-out", self.directory / "cert.pem"]
        subprocess.run([*command, *files], check=True, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def log(self):
        return (self.directory / "log").read_text(errors="replace").splitlines()

    def is_healthy(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/healthz", timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def resident_mib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


class Watch(threading.Thread):
    """The largest resident memory, looked at twenty times in a second."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.most_mib, self.done = broker, 0.0, threading.Event()

    def run(self):
        while not self.done.wait(0.05):
            try:
                self.most_mib = max(self.most_mib, self.broker.resident_mib())
            except OSError:
                return


def measured(args, *brokers):
    """Those who behave, at each of these brokers at the same time: their reports."""
    command = [args.binary, "bench", "pubsub", "--qos", args.qos, "--rate", args.rate, "--publishers", 5, "--subscribers", 5]
    command += ["--seconds", args.seconds, "--warm-up", 2, "--stall-seconds", 60, "--json", "--port"]
    command = [str(word) for word in command]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    loads = [subprocess.Popen([*command, str(broker.port)], **streams) for broker in brokers]
    reports = [load.communicate() for load in loads]
    for report, errors in reports:
        if not report:
            sys.exit(f"the measured load failed: {errors}")
    return [json.loads(report) for report, _ in reports]


def attack(args, broker, beside):
    watch = Watch(broker)
    watch.start()
    quiet, quiet_beside = measured(args, broker, beside)
    quiet_mib = broker.resident_mib()
    attackers = [crowd, flood, malformed, never_reads]
    if args.pressure:
        attackers = [hoarders, fillers]
    if args.hellos:
        attackers = [hellos]
    processes = [Attackers(what.__name__.replace("_", " "), what, args) for what in attackers]
    for process in processes:
        process.start()
    # Attacks are under way before it is measured.
    if args.pressure:
        await_pressure(broker)
    else:
        time.sleep(5)
    attacked, meanwhile_beside = measured(args, broker, beside)
    metrics = broker.metrics()
    done = {process.name: process.stop() for process in processes}
    watch.done.set()
    return {
        "quiet": quiet,
        "attacked": attacked,
        "quiet_beside": quiet_beside,
        "meanwhile_beside": meanwhile_beside,
        "quiet_resident_mib": quiet_mib,
        "most_resident_mib": watch.most_mib,
        "attackers": done,
        "metrics": metrics,
        "same_process": broker.process.poll() is None,
        "serves": broker.is_healthy(),
    }


def await_pressure(broker, patience=120):
    end = time.monotonic() + patience
    while not memory_used_up(broker.metrics()) and time.monotonic() < end:
        time.sleep(0.5)


def memory_used_up(metrics):
    return metrics.get('nervewire_bounds_hit_total{bound="memory_bytes"}', 0)


class Attackers:
    """Some attackers in a process of their own, which says at its end what it did."""

    def __init__(self, name, what, args):
        self.name, self.what, self.args = name, what, args

    def start(self):
        self.read, write = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        os.close(self.read)
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        # Attackers would be other machines. Here they share the broker's cores, and what they take of these says nothing about it: they
        # get what nobody else wants, and still offer what they are told to. (With `nice` a processor that one of them is on counts as busy,
        # and whoever wakes up is put where it waits for somebody else.)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        try:
            result = self.what(self.args, stopped)
        except Exception as error:  # Said, not lost.
            result = {"failed": repr(error)}
        os.write(write, json.dumps(result).encode())
        os._exit(0)

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        text = b""
        while part := os.read(self.read, 65_536):
            text += part
        os.waitpid(self.pid, 0)
        return json.loads(text or b"{}")


def opened(source, timeout=10, receive_bytes=None):
    stream = socket.socket()
    stream.settimeout(timeout)
    if receive_bytes:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    stream.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    stream.bind((source, 0))
    stream.connect(("127.0.0.1", PORT))
    return stream


def opening(number, port):
    """A connection that nobody waits for, from one of forty addresses."""
    stream = socket.socket()
    stream.setblocking(False)
    stream.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    stream.bind((f"127.0.0.{2 + number % 40}", 0))
    stream.connect_ex(("127.0.0.1", port))
    return stream


def connect_packet(client_id, clean):
    flags = b"\x02" if clean else b"\x00"
    body = b"\x00\x04MQTT\x04" + flags + b"\x00\x00" + struct.pack(">H", len(client_id)) + client_id
    return b"\x10" + bytes([len(body)]) + body


def logged_in(client_id, source, clean=True, receive_bytes=None):
    stream = opened(source, receive_bytes=receive_bytes)
    stream.sendall(connect_packet(client_id, clean))
    assert stream.recv(4)[:1] == b"\x20", "no CONNACK"
    return stream


def crowd(args, stopped):
    """Half-open connections, and such as send a byte of a CONNECT now and then. Who is closed comes again."""
    beginning = b"\x10\xff\xff\x03\x00\x04MQTT\x05\x02"  # Of a CONNECT of 65,535 bytes.
    selector = selectors.DefaultSelector()
    wanted = {"half-open": args.half_open, "slow": args.slow}
    now = {"half-open": 0, "slow": 0}
    result = {"opened": 0, "closed": 0, "most": 0}
    number, next_bytes = 0, time.monotonic() + 1

    def forget(stream, kind):
        selector.unregister(stream)
        stream.close()
        now[kind] -= 1
        result["closed"] += 1

    while not stopped.is_set():
        for kind in wanted:
            for _ in range(min(100, wanted[kind] - now[kind])):
                number += 1
                stream = opening(number, PORT)
                selector.register(stream, selectors.EVENT_READ, [kind, 0])
                now[kind] += 1
                result["opened"] += 1
        result["most"] = max(result["most"], sum(now.values()))
        for key, _ in selector.select(0.05):
            try:
                gone = not key.fileobj.recv(64)
            except BlockingIOError:
                continue
            except OSError:
                gone = True
            if gone:
                forget(key.fileobj, key.data[0])
        if time.monotonic() >= next_bytes:
            next_bytes = time.monotonic() + 1
            for key in list(selector.get_map().values()):
                kind, sent = key.data
                if kind == "slow":
                    try:
                        key.fileobj.send(beginning[sent : sent + 1] or b"x")
                        key.data[1] = sent + 1
                    except BlockingIOError:
                        pass
                    except OSError:
                        forget(key.fileobj, kind)
        time.sleep(0.01)
    return result


def flood(args, stopped):
    """One client that offers so many PUBLISH packets per second, and counts what the kernel takes from it."""
    payload = b"x" * 16
    packet = b"\x30" + bytes([2 + len(FLOOD_TOPIC) + len(payload)]) + struct.pack(">H", len(FLOOD_TOPIC)) + FLOOD_TOPIC + payload
    per_slice = max(1, args.flood_rate // 100)
    block = packet * per_slice
    stream = logged_in(b"flood", "127.0.0.60")
    stream.settimeout(0.01)
    offered = taken = reconnected = 0
    pending = memoryview(b"")
    due = time.monotonic()
    while not stopped.is_set():
        if time.monotonic() >= due:
            due += 0.01
            offered += per_slice
            # What the broker did not take in time is not saved up: it is offered anew.
            pending = pending if len(pending) > len(block) else memoryview(bytes(pending) + block)
        try:
            sent = stream.send(pending) if len(pending) else 0
            taken += sent
            pending = pending[sent:]
        except (BlockingIOError, TimeoutError):
            continue
        except OSError:
            reconnected += 1
            pending = memoryview(b"")
            time.sleep(0.5)
            stream = logged_in(b"flood", "127.0.0.60")
            stream.settimeout(0.01)
        if not len(pending):
            time.sleep(max(0.0, due - time.monotonic()))
    return {"offered": offered, "taken": taken // len(packet), "reconnected": reconnected}


def never_reads(args, stopped):
    """A subscriber to the flood that reads nothing."""
    stream = logged_in(b"never reads", "127.0.0.61")
    body = b"\x00\x01" + struct.pack(">H", 7) + b"flood/#" + b"\x00"
    stream.sendall(b"\x82" + bytes([len(body)]) + body)
    stopped.wait()
    return {"subscribed": 1}


def hoarders(args, stopped):
    """Subscribers that read nothing, each of a topic of its own: the odd ones at QoS 1 with sessions that last."""
    streams = []
    for number in range(args.hoarders):
        name = hoarder(number)
        stream = logged_in(name, f"127.0.0.{120 + number % 40}", clean=number % 2 == 0, receive_bytes=4096)
        body = b"\x00\x01" + struct.pack(">H", len(name)) + name + bytes([number % 2])
        stream.sendall(b"\x82" + bytes([len(body)]) + body)
        streams.append(stream)
    stopped.wait()
    return {"subscribed": len(streams)}


def hoarder(number):
    return b"hoard/%d" % number


def fillers(args, stopped):
    """A publisher for every topic in turn, at the QoS of its subscriber. Who is disconnected comes again."""
    sent = acknowledged = reconnected = 0
    payload = os.urandom(args.payload_bytes)
    stream = None
    time.sleep(1)  # The first messages are for somebody.
    while not stopped.is_set():
        try:
            if stream is None:
                stream, unread = logged_in(b"filler", "127.0.0.110"), 0
            topic, qos = hoarder(sent % args.hoarders), sent % 2
            body = struct.pack(">H", len(topic)) + topic + (struct.pack(">H", sent % 65_535 + 1) if qos else b"") + payload
            stream.sendall(bytes([0x30 | qos << 1]) + remaining_length(len(body)) + body)
            sent += 1
            unread += 4 * qos
            if unread >= 40:
                got = len(stream.recv(unread))
                unread -= got
                acknowledged += got // 4
        except TimeoutError:
            continue
        except OSError:
            reconnected += 1
            stream = None
            time.sleep(0.1)
    return {"sent": sent, "MiB": sent * args.payload_bytes // MIB, "acknowledged": acknowledged, "reconnected": reconnected}


def remaining_length(number):
    encoded = b""
    while True:
        number, digit = number >> 7, number & 127
        encoded += bytes([digit | (128 if number else 0)])
        if not number:
            return encoded


def hellos(args, stopped):
    """TLS handshakes that get no further than the broker's signature."""
    result = {"begun": 0, "signed": 0, "closed": 0}
    open_now, number, due = [], 0, time.monotonic()
    hello = client_hello()
    while not stopped.is_set():
        due += 0.01
        for _ in range(args.hellos // 100):
            number += 1
            stream = opening(number, TLS_PORT)
            try:
                stream.send(hello)
            except OSError:
                pass  # Its turn on the other side has not come.
            result["begun"] += 1
            open_now.append(stream)
        # Beyond 2,000 at a time the oldest go, answered or not.
        while len(open_now) > 2_000:
            stream = open_now.pop(0)
            try:
                result["signed"] += bool(stream.recv(64))
            except OSError:
                pass
            stream.close()
            result["closed"] += 1
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due, time.monotonic() - 0.1)
    return result


def client_hello():
    """Its bytes, of TLS 1.3."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def malformed(args, stopped):
    """Packets that are none: before a CONNECT, and as one."""
    kinds = [
        b"\xff" * 16,
        b"\x10\xff\xff\xff\xff\x7f",
        b"\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00\x00",
        b"\x30\x02\x00\x09",
        b"\x10\x0e\x00\x04MQTT\x04\x03\x00\x00\x00\x02\xc3\x28",
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    sent = answered = refused = 0
    while sent < args.malformed and not stopped.is_set():
        try:
            stream = opened(f"127.0.0.{70 + sent % 40}", timeout=5)
            stream.sendall(kinds[sent % len(kinds)])
            sent += 1
            answered += bool(stream.recv(64))
            stream.close()
        except OSError:
            refused += 1
            time.sleep(0.001)
    return {"sent": sent, "answered": answered, "refused": refused}


def report(args, broker, result):
    quiet, attacked = result["quiet"], result["attacked"]
    p99 = {name: max(result[name]["latency_us"]["p99"], 0.001) for name in ("quiet", "attacked", "meanwhile_beside")}
    times = p99["attacked"] / p99["quiet"]
    times_beside = p99["attacked"] / p99["meanwhile_beside"]
    lost = attacked.get("lost", 0)
    verdicts = [
        ("p99 of those who behave, times that in quiet", f"{times:.2f}", f"<= {args.times}", times <= args.times),
        ("p99 of those who behave, times that at the broker beside", f"{times_beside:.2f}", f"<= {args.times}", times_beside <= args.times),
        ("resident memory, MiB", f"{result['most_resident_mib']:.0f}", f"<= {args.rss_mib}", result["most_resident_mib"] <= args.rss_mib),
        ("messages of those who behave that were lost", str(lost), "0", lost == 0),
        ("the same process, and it serves", str(result["same_process"] and result["serves"]), "True", result["same_process"] and result["serves"]),
    ]
    if args.pressure:
        hits = memory_used_up(result["metrics"])
        verdicts.append(("times that the memory was used up", f"{hits:.0f}", "> 0", hits > 0))
    if args.json:
        print(json.dumps({**result, "verdicts": verdicts}, indent=2))
    else:
        show(result, verdicts)
    sys.exit(0 if all(verdict[-1] for verdict in verdicts) else 1)


def show(result, verdicts):
    print(f"latency of those who behave, us: p50 / p99 / max {line(result['quiet'])} in quiet, {line(result['attacked'])} under attack")
    print(f"at the broker beside: {line(result['quiet_beside'])} in quiet, {line(result['meanwhile_beside'])} while the other is attacked")
    print(f"resident: {result['quiet_resident_mib']:.0f} MiB in quiet, at most {result['most_resident_mib']:.0f} MiB")
    for name, did in result["attackers"].items():
        print(f"{name}: " + ", ".join(f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in did.items()))
    hits = {name: value for name, value in result["metrics"].items() if name.startswith("nervewire_bounds_hit") and value > 0}
    for name, value in sorted(hits.items()):
        print(f"{name} {value:,.0f}")
    print()
    print("| what | is | bound | verdict |")
    print("|---|---|---|---|")
    for what, value, bound, passed in verdicts:
        print(f"| {what} | {value} | {bound} | {'passed' if passed else 'FAILED'} |")


def line(run):
    latency = run["latency_us"]
    return f"{latency['p50']:.0f} / {latency['p99']:.0f} / {latency['max']:.0f}"


if __name__ == "__main__":
    main()
