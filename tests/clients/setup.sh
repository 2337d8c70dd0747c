#!/bin/sh
# Installs the MQTT clients that ignored tests run (`cargo test -- --ignored`), pinned, into this directory.
set -eu
cd "$(dirname "$0")"
[ -x venv/bin/python ] || python3 -m venv venv
venv/bin/python -m pip install --quiet --requirement requirements.txt
npm ci --silent
