#!/bin/sh
# Builds one fuzz target with the stable toolchain and runs it for some seconds.
#   fuzz/run.sh TARGET SECONDS [libFuzzer options]
# Seeds come from fuzz/seeds/TARGET, what is found goes to fuzz/corpus/TARGET, crashes to
# fuzz/artifacts/TARGET. Exit code 0 means: no finding.
set -eu
cd "$(dirname "$0")"
target=${1:?usage: run.sh TARGET SECONDS}
seconds=${2:?usage: run.sh TARGET SECONDS}
shift 2
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags apply to the target only, not to build scripts and procedural macros.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on"
export RUSTFLAGS
CARGO_TARGET_DIR=target cargo build --quiet --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
set -- "-max_total_time=$seconds" "-artifact_prefix=artifacts/$target/" -print_final_stats=1 \
    -timeout=10 -rss_limit_mb=1024 "$@"
if [ -f "dict/$target.dict" ]; then
    set -- "-dict=dict/$target.dict" "$@"
fi
set -- "$@" "corpus/$target"
if [ -d "seeds/$target" ]; then
    set -- "$@" "seeds/$target"
fi
exec "target/$host/release/$target" "$@"
