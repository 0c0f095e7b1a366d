#!/usr/bin/env bash
# Runs one fuzzer for some seconds with the stable toolchain: fuzz/run.sh pickle|container|keys|jpeg|png|webp|bmp|gif|tiff|config|tokenizer SECONDS [OPTIONS OF LIBFUZZER]
# `cargo +nightly fuzz run TARGET` does the same where cargo-fuzz is installed. What is found on the way is kept in target/corpus, inputs
# that break something in artifacts; the seeds in corpus are not changed.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 seconds=$2
shift 2
# Coverage is counted in the readers, and in the JSON parser under them, not in the libraries for numbers.
wrapper=$(mktemp)
trap 'rm -f "$wrapper"' EXIT
cat >"$wrapper" <<'WRAPPER'
#!/usr/bin/env bash
if [[ " $* " == *" --crate-name driftless "* || " $* " == *" --crate-name serde_json "* || " $* " == *fuzz_targets* ]]; then
  exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
fi
exec "$@"
WRAPPER
chmod +x "$wrapper"
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$PWD/target}
RUSTC_WRAPPER=$wrapper cargo build --release --bin "$target"
seeds=corpus/$target
[[ -d $seeds ]] || seeds=../tests/fixtures/vision/files # images; a decoder puts the first bytes of all of them right
mkdir -p "$CARGO_TARGET_DIR/corpus/$target" artifacts
exec "$CARGO_TARGET_DIR/release/$target" "$CARGO_TARGET_DIR/corpus/$target" "$seeds" -artifact_prefix=artifacts/ \
  -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 "$@"
