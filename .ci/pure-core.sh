#!/usr/bin/env bash
# The core must not depend on a runtime, a transport or an encoding.
set -euo pipefail
tree=$(cargo tree -p libp2p-kad-dht --no-default-features --edges normal --prefix none)
for crate in libp2p-swarm libp2p-core futures prost tokio; do
    if grep -qE "^$crate v" <<<"$tree"; then
        echo "the core depends on $crate" >&2
        exit 1
    fi
done
echo "none of libp2p-swarm, libp2p-core, futures, prost, tokio"
