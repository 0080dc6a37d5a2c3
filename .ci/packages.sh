#!/usr/bin/env bash
# Packs the packages, unpacks each file elsewhere, and builds what a user would find there. Usage: packages.sh PACKAGE...
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-$PWD/target}"
unpacked="$(mktemp -d)"
trap 'rm -rf "$unpacked"' EXIT
cargo package --allow-dirty --no-verify "${@/#/--package=}"
patches=()
for package in "$@"; do
    file=$(ls -t "$target/package/$package"-[0-9]*.crate | head -1)
    tar -xzf "$file" -C "$unpacked"
    mv "$unpacked/$(basename "$file" .crate)" "$unpacked/$package"
    cp Cargo.lock "$unpacked/$package/"
    # The packages may not be in the registry yet: each finds the others beside it.
    patches+=(--config "patch.crates-io.$package.path=\"$unpacked/$package\"")
done
for package in "$@"; do
    others=()
    for ((i = 1; i < ${#patches[@]}; i += 2)); do
        case "${patches[i]}" in "patch.crates-io.$package.path="*) ;; *) others+=(--config "${patches[i]}") ;; esac
    done
    echo "$package, unpacked"
    for targets in "" --examples; do
        CARGO_TARGET_DIR="$target" cargo check --quiet --manifest-path "$unpacked/$package/Cargo.toml" \
            --all-features $targets "${others[@]}"
    done
done
