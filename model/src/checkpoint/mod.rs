//! Weight files: safetensors, sharded safetensors, and files that appear whole or not at all.
//!
//! A weight file comes from strangers, so nothing in it is believed before it is checked, and reading one costs memory in
//! proportion to the tensor that is asked for. Errors name the file, the tensor, what was expected and what was found.
//!
//! Deliberate differences from the reference readers: torch's own `torch.load` executes what a pickle asks for, this room never
//! does; the safetensors library maps or loads the whole file, this room reads one tensor by position.

pub mod atomic;
mod config_file;
mod container;
mod elements;
mod positioned;
mod safetensors;
mod sharded;
mod weight_file;

pub use atomic::{AtomicFile, AtomicFolder, remove_unfinished, write_atomically};
pub use config_file::read_config;
pub use safetensors::{TensorSpec, write_safetensors, write_safetensors_streaming};
pub use weight_file::{TensorInfo, WeightFile};
