//! Adapter files: LoRA and LoCon in the spellings of kohya, diffusers (today's and older) and PEFT, and in cloneofsimo's format
//! without names; the other families in those of LyCORIS.
//!
//! An adapter changes a weight by `multiplier * dW`. What a file says is kept as it is stored (element type, rank and alpha of
//! each layer); shapes are brought to one form: matrices for linear layers, four dimensions for convolutions. Meaning of the
//! entries as in kohya sd-scripts `networks/lora.py` and LyCORIS 4.1, whose forward passes the formulas equal.
//!
//! Deliberate differences from the reference readers: an entry that is not understood is an error and not skipped; so are ranks
//! that disagree, a factor without its partner, alpha 0 (kohya's trainer and its merge script disagree on what it means), NaN and
//! infinities, and a layer that occurs twice under two spellings. PEFT files need their `adapter_config.json`, which holds the
//! scale, beside them.

mod fit;
mod folder;
pub mod key;
pub mod kohya_name;
mod layer;
mod metadata;
mod nameless;
mod peft_config;
mod read;
mod write_diffusers;
mod write_kohya;
mod write_peft;

pub use crate::model_family::Network;
pub use folder::files_at;
pub use key::Scheme;
pub use metadata::{CLEAN_TIMESTEP, clean_timestep, kohya_metadata, tensor_hashes};
pub use read::{UnknownKeys, is_adapter};
pub use write_diffusers::WEIGHT_NAME as DIFFUSERS_WEIGHT_NAME;
pub use write_peft::fits_peft;

use crate::adapter::Adapter;
use crate::error::Result;
use crate::formats::WeightFile;
use crate::model_family::ModelFamily;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What stands on each layer, by network and module path.
pub type Entries = BTreeMap<(Network, String), Adapter>;

/// An adapter as a file holds it.
#[derive(Debug, Clone)]
pub struct AdapterFile {
    /// Where it was read.
    pub path: PathBuf,
    /// What it is an adapter for, as far as the file tells.
    pub family: &'static ModelFamily,
    /// What stands on each layer, by network and module path (`down_blocks.0.resnets.1.conv1`,
    /// `text_model.encoder.layers.3.mlp.fc2`).
    pub entries: Entries,
    /// The file's free text entries; none for pickles.
    pub metadata: BTreeMap<String, String>,
    /// The spellings found; usually one.
    pub schemes: BTreeSet<Scheme>,
    /// Keys that were not understood, when that was allowed.
    pub unknown_keys: Vec<String>,
}

impl AdapterFile {
    /// Reads an adapter file; any key that is not understood is an error.
    ///
    /// # Errors
    /// [`crate::Error::File`] or [`crate::Error::Tensor`] naming the file and the key: not a weight file, no adapter, an adapter
    /// of another type or model, or inconsistent.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_weights(&WeightFile::open(path)?, UnknownKeys::Refuse)
    }

    /// Reads an adapter from an open file.
    ///
    /// # Errors
    /// As [`AdapterFile::open`].
    pub fn from_weights(file: &WeightFile, unknown_keys: UnknownKeys) -> Result<Self> {
        read::read(file, unknown_keys)
    }
}
