#!/usr/bin/env bash
# Checks the workspace with the lowest versions that its manifests allow for direct dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."

copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
.ci/copy.sh "$copy"
# Only cargo's resolver needs the unstable option; the code is built as on stable.
(cd "$copy" && RUSTC_BOOTSTRAP=1 cargo update --quiet -Z direct-minimal-versions)
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" cargo check --manifest-path "$copy/Cargo.toml" --all-features
