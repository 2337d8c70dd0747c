#!/usr/bin/env python3
"""What a TLS 1.3 handshake costs the broker, and what one that resumes a session does.

A fresh broker with a configuration of its own, one shard, an authority and certificates of `openssl`. A client connects again and again
and sends a CONNECT each time, first with a full handshake, then with the ticket of the connection before. What counts is the
broker's processor time (/proc/PID/stat), so that what the client computes is left out; `plain` is the same without TLS. With
--client-certificate the broker asks for a certificate and looks into a revocation list, also where a session is resumed.

Only the standard library and openssl. Say which build it was: --binary target/release/nervewire.
"""

import argparse
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORT, PLAIN_PORT, ADMIN_PORT = 22884, 22885, 29081
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"

CONFIGURATION = """
[broker]
data_dir = ""
durability = "memory"
shards = 1
[[listener]]
bind = "127.0.0.1:{plain_port}"
[[listener]]
bind = "127.0.0.1:{port}"
tls = {{ cert = "server.pem", key = "server.key"{client} }}
[auth]
anonymous = "loopback"
default = "allow"
[admin]
bind = "127.0.0.1:{admin_port}"
"""
CLIENT = ', client_ca = "ca.pem", client_cert = "required", identity = "cn", crl = ["ca.crl"]'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/nervewire")
    parser.add_argument("--handshakes", type=int, default=2_000, help="of each kind")
    parser.add_argument("--runs", type=int, default=3, help="the medians are said")
    parser.add_argument("--client-certificate", action="store_true")
    args = parser.parse_args()
    if not args.binary.exists():
        parser.error(f"{args.binary} does not exist: cargo build --release, or --binary FILE")
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        make_certificates(directory)
        client = CLIENT if args.client_certificate else ""
        text = CONFIGURATION.format(port=PORT, plain_port=PLAIN_PORT, admin_port=ADMIN_PORT, client=client)
        (directory / "nervewire.toml").write_text(text)
        broker = subprocess.Popen([args.binary, "run", "--config", directory / "nervewire.toml"], stderr=subprocess.DEVNULL)
        try:
            await_healthy(broker)
            report(args, [measure(args, broker, context_of(directory)) for _ in range(args.runs)])
        finally:
            broker.send_signal(signal.SIGTERM)
            broker.wait(30)


def make_certificates(directory):
    def openssl(*words):
        done = subprocess.run(["openssl", *words], cwd=directory, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"openssl {' '.join(words)}: {done.stderr}")

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "30")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (directory / "extensions").write_text("subjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "30", "-extfile", "extensions")
    (directory / "index.txt").write_text("")
    (directory / "crlnumber").write_text("01\n")
    (directory / "ca.cnf").write_text("[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ncrlnumber = crlnumber\ndefault_md = sha256\n")
    openssl("ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "ca.key", "-cert", "ca.pem", "-crldays", "30", "-out", "ca.crl")


def context_of(directory):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(directory / "ca.pem")
    context.load_cert_chain(directory / "client.pem", directory / "client.key")
    return context


def await_healthy(broker):
    end = time.monotonic() + 60
    while broker.poll() is None and time.monotonic() < end:
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/healthz", timeout=5).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the broker does not start: run it with this configuration and look")


def measure(args, broker, context):
    """Microseconds of the broker's time for a connection of each kind."""
    session = None

    def plain():
        with socket.create_connection(("127.0.0.1", PLAIN_PORT)) as stream:
            enter(stream)

    def full():
        nonlocal session
        with socket.create_connection(("127.0.0.1", PORT)) as stream:
            with context.wrap_socket(stream, server_hostname="localhost") as tls:
                enter(tls)
                if tls.session_reused:
                    sys.exit("a full handshake was none")
                session = tls.session

    def resumed():
        nonlocal session
        with socket.create_connection(("127.0.0.1", PORT)) as stream:
            with context.wrap_socket(stream, server_hostname="localhost", session=session) as tls:
                enter(tls)
                if not tls.session_reused:
                    sys.exit("a session was not resumed")
                session = tls.session

    return {kind.__name__: cost(args, broker, kind) for kind in (plain, full, resumed)}


def enter(stream):
    stream.sendall(CONNECT)
    # The tickets come before the CONNACK.
    answer = stream.recv(4)
    if answer != b"\x20\x02\x00\x00":
        sys.exit(f"no CONNACK: {answer!r}")
    stream.sendall(b"\xe0\x00")


def cost(args, broker, connect):
    for _ in range(20):
        connect()
    before = processor_seconds(broker)
    for _ in range(args.handshakes):
        connect()
    return (processor_seconds(broker) - before) / args.handshakes * 1e6


def processor_seconds(broker):
    fields = Path(f"/proc/{broker.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(args, runs):
    median = {kind: sorted(run[kind] for run in runs)[len(runs) // 2] for kind in runs[0]}
    for kind, microseconds in median.items():
        print(f"{kind:8} {microseconds:8.0f} us of the broker's time per connection with its CONNECT")
    full, resumed = (median[kind] - median["plain"] for kind in ("full", "resumed"))
    print(f"handshake alone: full {full:.0f} us, resumed {resumed:.0f} us, ratio {full / max(resumed, 1):.1f}")


if __name__ == "__main__":
    main()
