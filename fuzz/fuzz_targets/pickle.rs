//! The pickle machine: the input is one pickle, as the object of torch's zip file and of its legacy stream.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::in_scratch_folder(entries::pickle, data));
