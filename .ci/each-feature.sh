#!/usr/bin/env bash
# Lints each package with each of its features alone. Usage: each-feature.sh PACKAGE...
set -euo pipefail
cd "$(dirname "$0")/.."

copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
.ci/copy.sh "$copy"
# cargo-hack names no package to cargo, which would take the root package together with all other default members, and with
# the features that they want of it.
sed -i '/^default-members/d' "$copy/Cargo.toml"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
cd "$copy"
cargo hack clippy "${@/#/--package=}" --each-feature -- -D warnings
