#!/usr/bin/env bash
# Runs the examples and the programs as a user would, on loopback, and checks what they print. Each checks itself too, by its exit code.
set -euo pipefail
cd "$(dirname "$0")/.."

programs="${CARGO_TARGET_DIR:-target}/debug"
examples="$programs/examples"
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

# run SECONDS NAME [ARGUMENTS]: the example must end well in that time; its output is kept and shown if it does not.
run() {
    local seconds="$1" name="$2" begun
    shift 2
    begun="$(date +%s.%N)"
    if ! timeout "$seconds" "$examples/$name" "$@" >"$out/$name" 2>"$out/$name.err"; then
        cat "$out/$name" "$out/$name.err"
        echo "$name failed, or took more than $seconds s" >&2
        return 1
    fi
    printf '%-12s %5.1f s\n' "$name" "$(echo "$(date +%s.%N) $begun" | awk '{ print $1 - $2 }')"
}

# expect NAME PATTERN: some line of the example's output must match.
expect() {
    grep -Eq -- "$2" "$out/$1" && return
    cat "$out/$1"
    echo "$1 printed nothing like: $2" >&2
    return 1
}

cargo build --examples --bins

run 20 quickstart
expect quickstart '^  [[:alnum:]]{6} puts /quickstart/before .*kept by( [[:alnum:]]{6}){8} '
expect quickstart '"hello before" from [[:alnum:]]{6} '
expect quickstart '^7 nodes die'
expect quickstart '^  [[:alnum:]]{6} puts /quickstart/after .*kept by( [[:alnum:]]{6}){8} '
expect quickstart '"hello after" from [[:alnum:]]{6} '
expect quickstart ' looks for providers .* at /ip4/127\.0\.0\.1/tcp/'
expect quickstart '^40 of 40 queries found what they looked for'

run 20 own_driver
expect own_driver '^gets .*"hello, core" from [[:alnum:]]{6}$'
expect own_driver '^finds providers .*/ip4/127\.0\.0\.1/udp/'
expect own_driver '^15 of 15 as they should be'

run 60 compose
expect compose ' receives from [[:alnum:]]{6}: the DHT brought us together$'
expect compose '^3 of 3 readers met, 3 of 3 received the message'

run 20 two_networks
expect two_networks '^/near is "from the room", says the '
expect two_networks '^everything was found where it is$'

# The three examples of rust-libp2p, each of several processes.
timeout 60 python3 .ci/migrated.py "$examples" "$programs/kad-node"

# An argument that a program does not know ends it at once, with its usage.
run_wrong() {
    local code=0
    timeout 5 "$1" --nonsense >"$out/wrong" 2>&1 || code=$?
    [ "$code" = 2 ] || { echo "$1 --nonsense ended with $code" >&2; exit 1; }
    expect wrong '^Usage: '
}
for program in "$examples/compose" "$programs/kad-node" "$programs/kad-sim"; do
    run_wrong "$program"
done
for program in kad-node kad-sim; do
    timeout 5 "$programs/$program" --help >"$out/$program"
    expect "$program" '^Usage: '
done

timeout 60 python3 .ci/node.py "$programs/kad-node"

echo "the driver of one's own, without libp2p"
if grep -rnE 'libp2p::|libp2p_swarm|libp2p_core' examples/own_driver; then exit 1; fi
cargo check -p libp2p-kad-dht --no-default-features --features driver --example own_driver
