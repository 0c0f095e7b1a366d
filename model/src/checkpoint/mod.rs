//! Weight files: safetensors, torch's pickles, sharded models; what their keys mean; and files that appear whole or not at all.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`WeightFile`] | one file of named tensors, whatever its container; tensors are read one at a time |
//! | `container`, [`kind`] | what a file is, by its content: the container, and the model or adapter inside |
//! | `safetensors`, `pickle`, `sharded` | the containers |
//! | [`naming`] | LDM, diffusers, kohya and PEFT names of the same layers |
//! | [`LdmCheckpoint`], [`Component`] | networks of a whole checkpoint, under diffusers' names |
//! | [`atomic`] | writing |
//!
//! A weight file comes from strangers, so nothing in it is believed before it is checked, and reading one costs memory in
//! proportion to the tensor that is asked for. Errors name the file, the tensor, what was expected and what was found.
//!
//! Deliberate differences from the reference readers: torch's own `torch.load` executes what a pickle asks for, this room never
//! does; the safetensors library maps or loads the whole file, this room reads one tensor by position.

pub mod atomic;
mod component;
mod config_file;
mod container;
mod elements;
pub mod kind;
mod ldm_checkpoint;
pub mod naming;
mod pickle;
mod place;
mod positioned;
pub(crate) mod safetensors;
mod sharded;
mod shown;
mod weight_file;

pub use atomic::{AtomicFile, AtomicFolder, remove_stale, remove_unfinished, write_atomically};
pub use component::Component;
pub use config_file::read_config;
pub use elements::{cast, require_finite};
pub use kind::{ModelKind, model_kind};
pub use ldm_checkpoint::{LdmCheckpoint, UnetWeights};
pub use pickle::write_torch_streaming;
pub use safetensors::{TensorSpec, write_safetensors, write_safetensors_streaming};
pub use weight_file::{Format, TensorInfo, WeightFile};
