#!/usr/bin/env bash
# Neither the core nor the simulator may depend on a runtime, a transport or an encoding.
set -euo pipefail
for package in libp2p-kad-dht libp2p-kad-dht-sim; do
    tree=$(cargo tree -p "$package" --no-default-features --edges normal --prefix none)
    for crate in libp2p-swarm libp2p-core futures prost tokio; do
        if grep -qE "^$crate v" <<<"$tree"; then
            echo "$package without features depends on $crate" >&2
            exit 1
        fi
    done
done
echo "none of libp2p-swarm, libp2p-core, futures, prost, tokio"
