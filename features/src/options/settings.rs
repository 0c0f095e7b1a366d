//! What was asked for of a feature set, before it is checked.

use std::path::PathBuf;

use serde::Deserialize;

use crate::set::{Finite, FusionMode, LoraFile, Noising};

/// One `[[set]]`, or the set of a command line, as it was asked for: [`SET_OPTIONS`](super::SET_OPTIONS) reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetSettings {
    /// The set's folder in the output; from the command line there is none.
    pub name: Option<String>,
    /// One prompt.
    pub prompt: Option<String>,
    /// Its file.
    pub prompt_file: Option<PathBuf>,
    /// A prompt per image.
    pub caption_dir: Option<PathBuf>,
    /// A table of them.
    pub prompt_csv: Option<PathBuf>,
    /// Noise level; without noise the timestep that the network is told, perhaps a fraction.
    pub t: Option<Finite>,
    /// Whether noise is added.
    pub noise: Option<Noising>,
    /// Start of denoising.
    pub denoising_from: Option<usize>,
    /// Inversion instead of noise.
    pub use_ddim_inversion: bool,
    /// Image number i draws from this + i.
    pub seed: Option<u64>,
    /// Features are the mean of so many draws.
    pub ensemble: Option<usize>,
    /// The layers.
    pub layer: Option<LayerSetting>,
    /// Categories of aggregated attention.
    pub attention: Vec<String>,
    /// Pooling.
    pub feature_resize: Option<usize>,
    /// ControlNets.
    pub control: Vec<ControlSetting>,
    /// Adapters.
    pub lora: Vec<LoraFile>,
    /// A merged model that takes the run's model's place in this set: folder, checkpoint file or hub id.
    pub model: Option<String>,
    /// File or folder of a UNet that takes the place of the model's in this set.
    pub unet: Option<PathBuf>,
    /// Whether its features are written; false for a set that only goes into others.
    pub write: Option<bool>,
    /// Names of the sets that this one is made of; such a set has nothing else but a name and a `fuse_mode`.
    pub fuse: Vec<String>,
    /// `mean` or `concat`.
    pub fuse_mode: Option<FusionMode>,
}

/// The layers of a set.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerSetting {
    /// A layer file.
    File(PathBuf),
    /// The ids themselves.
    Ids(Vec<String>),
}

/// A ControlNet of a set: at full strength and at every step where nothing else is said.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ControlSetting {
    /// The kind.
    pub kind: String,
    /// What its residuals are multiplied with.
    pub scale: Option<f64>,
    /// The first of the steps that it steers, as a share of their number.
    pub start: Option<f64>,
    /// The end of them.
    pub end: Option<f64>,
}
