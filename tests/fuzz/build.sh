#!/usr/bin/env bash
# Builds fuzz targets as cargo-fuzz would, without cargo-fuzz and with the pinned compiler: instrumented for coverage, under
# AddressSanitizer, into target/fuzz of the repository. Without arguments all of them.
#   tests/fuzz/build.sh [--bin TARGET]...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

flags=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Zsanitizer=address
    -Ccodegen-units=1
    --cfg=fuzzing
)
host=$(rustc -vV | sed -n 's/^host: //p')
encoded=$(
    IFS=$'\x1f'
    printf '%s' "${flags[*]}"
)
# RUSTC_BOOTSTRAP: the sanitizer is there in the stable compiler, but not yet behind a stable flag. --target keeps build scripts out of it.
RUSTC_BOOTSTRAP=1 CARGO_ENCODED_RUSTFLAGS=$encoded cargo build --locked --release \
    --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir target/fuzz "$@"
