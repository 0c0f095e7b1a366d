//! The safetensors format (<https://github.com/huggingface/safetensors>): eight bytes of header length, a JSON header, data.
//!
//! Own code beside the library because: the library's reader wants the whole file in memory, keeps the last of two entries with
//! one name, and does not say which entry is wrong; its writer puts the metadata in an order that changes from run to run. The
//! bytes written here are those of the library, with the metadata sorted by name.

mod header;
mod write;

pub(super) use header::{Entry, read_header};
pub(crate) use write::{Hashes, hash_tensors};
pub use write::{TensorSpec, write_safetensors, write_safetensors_streaming};
