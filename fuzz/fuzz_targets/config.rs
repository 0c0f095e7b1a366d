//! Configurations: the first byte says of what.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::in_scratch_folder(entries::named("config"), data));
