# The commands of CONTRIBUTING.md. `just` lists them; each line also works when typed by hand.

default:
    @just --list

# Everything that has to hold before a change lands
check:
    .ci/run

# Formatting, lints and types alone: a minute
quick:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The tests of one crate or one file: `just test driftless adapters`
test crate name="":
    cargo test --release -p {{crate}} {{ if name == "" { "" } else { "--test " + name } }}

# The documentation as it is published, with warnings as errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace

# Licenses, sources and advisories of the dependencies (needs cargo-deny)
deny:
    cargo deny check

# One fuzzer for some seconds (needs nightly and cargo-fuzz): `just fuzz pickle 60`
fuzz target seconds:
    fuzz/run.sh {{target}} {{seconds}}

# The kernels over odd sizes under AddressSanitizer (needs nightly)
asan:
    ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 RUSTFLAGS=-Zsanitizer=address cargo +nightly test --release -p driftless --lib --target x86_64-unknown-linux-gnu kernels

# Times of the networks on the seeded miniature, or on DRIFTLESS_MODEL
bench:
    cargo bench -p benches --bench networks

# Every operation beside what the machine can do
roofline:
    cargo bench -p benches --bench roofline

# Compares every file that two builds write: `just compare ../before/target/release`
compare old:
    cargo build --release --workspace --bins --example miniature
    python3 tests/reference/compare_builds.py {{old}} target/release
