#!/bin/sh
# Runs every fuzz target, or those named, for SECONDS_EACH seconds (10 by default). What each starts from is in `corpus`,
# what it finds beside that in `found` (not kept), and what fails in `artifacts`.
# Needs cargo-fuzz. No nightly compiler: the crate has no unsafe code, so that sanitizers would have nothing to find.
set -eu
cd "$(dirname "$0")/.."

command -v cargo-fuzz >/dev/null || {
    echo 'fuzzing needs cargo-fuzz: cargo install --locked cargo-fuzz' >&2
    exit 1
}
# Names of targets are one word each.
# shellcheck disable=SC2046
[ "$#" -gt 0 ] || set -- $(cargo fuzz list)
for target in "$@"; do
    mkdir -p "fuzz/found/$target"
    echo "== fuzz $target"
    cargo fuzz run --sanitizer none "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="${SECONDS_EACH:-10}" -max_len=4096 -timeout=5 -print_final_stats=0 -verbosity=0
done
