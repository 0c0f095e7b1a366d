//! Whole files: safetensors, torch's zip and legacy files, indices, and what is none of them.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::in_scratch_folder(entries::container, data));
