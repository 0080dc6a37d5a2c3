#!/usr/bin/env bash
# Counts the instructions of ten core paths in this tree and in an earlier commit, with the same toolchain, and fails if
# one of them needs over 5 % more. Needs valgrind and gungraun-runner. `.ci/instructions.sh [COMMIT]`, by default the
# commit before the last, or the last one if the tree has changes.
set -euo pipefail
cd "$(dirname "$0")/.."
last=HEAD^
[ -z "$(git status --porcelain)" ] || last=HEAD
base="${1:-$last}"
target="$(realpath "${CARGO_TARGET_DIR:-target}")"
export GUNGRAUN_HOME="$target/instructions/counts"
# A directory for each: in a common one cargo takes what was built last for both, since it looks at times only.
count() { CARGO_TARGET_DIR="$target/instructions/$1" cargo bench --quiet -p libp2p-kad-dht-instructions -- "${@:2}"; }

earlier="$(mktemp -d)"
trap 'git worktree remove --force "$earlier" 2>/dev/null || true' EXIT
if ! git worktree add --quiet --detach --force "$earlier" "$base" 2>/dev/null; then
    echo "!! SKIPPED: instruction counts: there is no commit $base"
    exit
fi
if [ ! -d "$earlier/benches/instructions" ]; then
    echo "!! SKIPPED: instruction counts: $base has no benches/instructions"
    exit
fi
(cd "$earlier" && count earlier --save-baseline=earlier >/dev/null)
count now --baseline=earlier --callgrind-limits='ir=5%'
