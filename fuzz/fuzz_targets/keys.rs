//! Names: the input is a list of tensors, one a line, of which a weight file is made.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::in_scratch_folder(entries::keys, data));
