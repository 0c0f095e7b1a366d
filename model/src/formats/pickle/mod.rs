//! Files that `torch.save` wrote, read without ever executing anything.
//!
//! A pickle is a program. The machine here knows the instructions that torch's own files use and builds only numbers, strings,
//! lists, dictionaries and descriptions of tensors; a global (a name such as `torch._utils._rebuild_tensor_v2`) is looked up in a
//! fixed table and never imported, called or resolved. A file that asks for anything else is refused whole, even where no weight
//! depends on it: such a file is not what it claims to be. Numbers stay in the file until a tensor is asked for.
//!
//! Formats: torch `serialization.py` of 2.x, zip (since 1.6) and legacy stream (before); the tar archives of 0.1.1 are refused.
//!
//! Deliberate differences from `torch.load(weights_only=True)`: a handful of globals that Lightning-era checkpoints hold beside
//! their weights are allowed as opaque values that are never built; sizes are checked before anything is allocated; checksums are
//! checked. Differences from `candle_core::pickle`: see above, and unwrapping, strides, legacy streams and shared references.

mod flatten;
mod globals;
mod graph;
mod legacy;
mod machine;
mod rebuild;
mod source;
mod write;
mod zip;
mod zip_file;

pub use write::write_torch_streaming;

use super::container::Container;
use super::location::{Location, Record};
use super::positioned::PositionedFile;
use super::weight_file::TensorInfo;
use crate::error::{Error, FileCause, Result};
use graph::{Graph, NodeId};
use std::collections::BTreeMap;

/// What stands in a torch file.
pub(super) struct Contents {
    pub(super) tensors: BTreeMap<String, (TensorInfo, Location)>,
    pub(super) others: BTreeMap<String, Other>,
    pub(super) records: Vec<Record>,
}

/// An entry that is no tensor.
#[derive(Debug, Clone)]
pub(super) struct Other {
    /// What it is, in words.
    pub(super) kind: &'static str,
    /// Its value, if it is a number.
    pub(super) number: Option<f64>,
}

/// Where a storage's bytes are, known after the pickle was read.
struct StorageLocation {
    offset: u64,
    record: Option<usize>,
}

/// Reads the names, types, shapes and locations of a torch file.
pub(super) fn open(file: &PositionedFile, container: Container) -> Result<Contents> {
    let loaded = if container == Container::Zip { zip_file::load(file)? } else { legacy::load(file)? };
    flatten::flatten(file, loaded)
}

/// A read pickle: the object that was saved, and the locations of the storages that it refers to.
struct Loaded {
    graph: Graph,
    root: NodeId,
    storages: Vec<StorageLocation>,
    records: Vec<Record>,
}

/// Words for what to do about a file that cannot be trusted.
const UNTRUSTED: &str = "use a .safetensors version of it, or save its weights alone (a state_dict) on a machine that trusts it";
/// Words for what to do about a damaged file.
const DAMAGED: &str = "download or write it again";

/// A refusal of a damaged file.
fn damaged(file: &PositionedFile, cause: impl Into<FileCause>) -> Error {
    Error::file(file.path(), cause, DAMAGED)
}
