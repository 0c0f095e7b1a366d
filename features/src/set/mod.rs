//! Feature sets: a pass of the network, and what is kept of it.
//!
//! Sets of one [`PassKey`] share a pass. Whatever changes what the network computes belongs into the key, so that sharing cannot
//! forget it.

mod finite;
mod fusion;
mod layer_choice;
mod lora_file;
mod timestep;

use std::path::PathBuf;

use driftless::taps::AttentionCategory;

pub use finite::Finite;
pub use fusion::{Fusion, FusionMode};
pub use layer_choice::LayerChoice;
pub use lora_file::LoraFile;
pub use timestep::{Noising, Timestep};

use crate::fault::Fault;
use crate::ids::Id;
use crate::inputs::{PromptSource, Sample, with_folder};

/// Names a feature set that is extracted.
pub type SetId = Id<FeatureSet>;
/// Names a feature set that is made of others.
pub type FusionId = Id<Fusion>;
/// Names a model, of which one is loaded at a time.
pub type ModelId = Id<ModelChoice>;

/// Which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChoice {
    /// Folder, file or hub id.
    pub model: String,
    /// For a checkpoint in one file: the model whose tokenizer and configurations it shares.
    pub base: String,
    /// Branch, tag or commit of a hub id.
    pub revision: Option<String>,
    /// File or folder of a UNet that takes the place of the model's.
    pub unet: Option<PathBuf>,
}

/// One technique: what is computed, and what is kept.
#[derive(Clone, Debug)]
pub struct FeatureSet {
    /// Its folder in the output; `None` where the output's own folder is used.
    pub name: Option<String>,
    /// What decides a pass of the network.
    pub pass: PassKey,
    /// What is kept of it.
    pub keep: Keep,
}

/// All that decides what one pass of the network computes for an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PassKey {
    /// The model.
    pub model: ModelId,
    /// The prompts.
    pub prompt: PromptSource,
    /// Which latents the network is shown, at which timestep.
    pub t: Timestep,
    /// Start of denoising.
    pub denoising_from: Option<usize>,
    /// Inversion instead of noise.
    pub use_ddim_inversion: bool,
    /// Image number i draws from this + i.
    pub seed: u64,
    /// Features are the mean of so many draws of the noise, 1 or more.
    pub ensemble: usize,
    /// ControlNets, in order.
    pub control: Vec<Steering>,
    /// Adapters with their strengths; `{folder}` in a file's name stands for the name of an image's folder.
    pub lora: Vec<LoraFile>,
}

/// What is kept of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The layers.
    pub layers: LayerChoice,
    /// Categories of aggregated attention, in order.
    pub attention: Vec<AttentionCategory>,
    /// Features are averaged over squares of this side.
    pub feature_resize: usize,
    /// Whether they are written; a set that only goes into others is not.
    pub written: bool,
}

/// How a ControlNet steers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Steering {
    /// Its kind.
    pub kind: String,
    /// What its residuals are multiplied with.
    pub scale: Finite,
    /// The first of the steps that it steers, as a share of their number, 0 to 1.
    pub start: Finite,
    /// The end of them, 0 to 1.
    pub end: Finite,
}

impl PassKey {
    /// The adapters of an image.
    ///
    /// # Errors
    /// When they depend on the image's folder, and it has no name.
    pub fn adapters(&self, sample: &Sample) -> Result<Vec<LoraFile>, Fault> {
        self.lora.iter().map(|lora| lora.of_folder(sample)).collect()
    }
}

impl LoraFile {
    /// The adapter of an image.
    ///
    /// # Errors
    /// When it depends on the image's folder, and it has no name.
    pub fn of_folder(&self, sample: &Sample) -> Result<Self, Fault> {
        // A name that is no text has no place for another in it.
        let Some(text) = self.file.to_str() else { return Ok(self.clone()) };
        Ok(Self { file: with_folder(text, sample)?.into(), scale: self.scale })
    }
}
