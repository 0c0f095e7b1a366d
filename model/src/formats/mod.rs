//! Bytes to named tensors and back: safetensors, torch's pickles, sharded models, configuration files; and files that appear whole
//! or not at all. This room knows no network and no adapter.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`WeightFile`] | one file of named tensors, whatever its container; tensors are read one at a time |
//! | `container` | which container a file is, by its content |
//! | `safetensors`, `pickle`, `sharded` | the containers, reading and writing |
//! | `elements`, `location`, `positioned` | element types, where a tensor's numbers are, reading them by position |
//! | [`regular_file`] | opening and reading what others named: regular files, with a bound |
//! | [`atomic`] | writing |
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
mod location;
mod pickle;
mod positioned;
pub mod regular_file;
mod safetensors;
mod sharded;
mod shown;
mod weight_file;

pub use crate::error::ElementError;
pub use atomic::{AtomicFile, AtomicFolder, remove_stale, remove_unfinished, unfinished_in, write_atomically};
pub use config_file::read_config;
pub(crate) use config_file::{MOST_DEPTH, MOST_WIDTH, check_sizes};
pub use elements::{cast, require_finite};
pub use pickle::write_torch_streaming;
pub use regular_file::{FileKind, no_such_file, open_regular, read_bounded, read_text};
pub(crate) use safetensors::{Hashes, hash_tensors};
pub use safetensors::{TensorSpec, write_safetensors, write_safetensors_streaming};
pub(crate) use shown::shown;
pub use shown::unknown_keys_error;
pub use weight_file::{Format, TensorInfo, WeightFile};
