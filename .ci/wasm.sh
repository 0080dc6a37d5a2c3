#!/usr/bin/env bash
# Runs the tests of core, wire, validators and handle as WebAssembly in node, and checks that the core asks nothing of
# its environment. Usage: wasm.sh; needs node and the targets wasm32-unknown-unknown and wasm32-wasip1.
set -euo pipefail
cd "$(dirname "$0")/.."

# Hundreds of nodes in virtual time: without optimisation they take many minutes, and node takes long to read symbols.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
target="${CARGO_TARGET_DIR:-target}"

# run FILE: node 20 crashes in WASI's calls once it has optimised them.
run() {
    node --no-warnings --no-turbo-fast-api-calls .ci/wasm.mjs "$1"
}

echo "the core and the simulator: no imports"
cargo build --quiet -p libp2p-kad-dht-sim --no-default-features --example anywhere --target wasm32-unknown-unknown
run "$target/wasm32-unknown-unknown/debug/examples/anywhere.wasm"

echo "the tests of core, wire, validators and handle"
tests=$(cargo test --no-run --lib -p libp2p-kad-dht --no-default-features --features driver,validators,testing \
    --target wasm32-wasip1 2>&1 | tee /dev/stderr | sed -nE 's/.*Executable .*\((.*\.wasm)\)/\1/p')
run "$tests"
