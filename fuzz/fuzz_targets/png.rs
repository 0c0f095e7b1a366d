//! PNG images: the input is a whole file.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::in_scratch_folder(entries::named("png"), data));
