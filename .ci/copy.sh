#!/usr/bin/env bash
# Copies the files of the project as they stand in the work tree. Usage: copy.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."

git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
        # A file that was deleted, but not yet in the index.
        [ ! -e "$file" ] || cp --parents "$file" "$1"
    done
