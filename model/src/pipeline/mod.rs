//! One model folder, whole: loads the components of Stable Diffusion 1.5 and ties them together - encode text, encode images, noise,
//! denoise, sample, extract (diffusers 0.32 `StableDiffusionPipeline`, `StableDiffusionImg2ImgPipeline`, and the original extractor).

mod adapters;
mod control;
mod extraction;
mod files;
mod images;
mod sampling;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

pub use adapters::AdapterReport;
pub use control::{Condition, Step, sum_residuals};
pub use extraction::{Extracted, Extraction, NoiseLevel, Stage};
pub use files::ModelFiles;
pub use sampling::{Sampling, Start, Watched, WatchedCall};

use crate::Result;
use crate::error::{ElementError, InputError};
use crate::formats::require_finite;
use crate::layers::{WeightType, Weights};
use crate::model_family::Network;
use crate::scheduler::SchedulerConfig;
use crate::text_encoder::{TextEncoder, TextEncoderConfig};
use crate::tokenizer::Tokenizer;
use crate::unet::{Unet, UnetConfig};
use crate::vae::{Vae, VaeConfig};

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Where the networks compute.
    pub device: Device,
    /// The compute type; see [`WeightType::new`].
    pub dtype: DType,
    /// For a single checkpoint file: the diffusers folder that has its configurations and tokenizer.
    pub base: Option<PathBuf>,
    /// A UNet in the place of the model's; see [`ModelFiles::with_unet`].
    pub unet: Option<PathBuf>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, base: None, unet: None }
    }
}

impl ModelOptions {
    fn weights(&self, files: &ModelFiles, network: Network) -> Result<Weights> {
        Ok(Weights::new(files.weights(network)?, &self.device, self.types()))
    }

    fn types(&self) -> WeightType {
        WeightType::new(self.dtype, &self.device)
    }

    fn prefer_half(&self) -> bool {
        self.dtype != DType::F32
    }
}

/// The components of a Stable Diffusion model. They are shared, so that one can be dropped when it is no longer needed.
#[derive(Clone)]
pub struct Pipeline {
    /// Text to token ids.
    pub tokenizer: Arc<Tokenizer>,
    /// Token ids to states.
    pub text_encoder: Arc<TextEncoder>,
    /// Images to latents and back.
    pub vae: Arc<Vae>,
    /// The noise predictor.
    pub unet: Arc<Unet>,
    /// The scheduler that the folder names, as its configuration.
    pub scheduler_config: SchedulerConfig,
    options: ModelOptions,
}

impl Pipeline {
    /// Loads a diffusers folder or a single checkpoint file (resolve hub ids with [`crate::hub`] first).
    ///
    /// # Errors
    /// When a component is missing, damaged, or not a supported model's.
    pub fn load(model: &Path, options: &ModelOptions) -> Result<Self> {
        let files = ModelFiles::open(model, options.base.as_deref(), options.prefer_half())?;
        let files = match &options.unet {
            Some(unet) => files.with_unet(unet)?,
            None => files,
        };
        // Small things first: a wrong configuration or tokenizer shows before gigabytes are read.
        UnetConfig::from_file(&files.config(Network::Unet))?;
        VaeConfig::from_file(&files.config(Network::Vae))?;
        TextEncoderConfig::from_file(&files.config(Network::TextEncoder))?;
        let scheduler_config = SchedulerConfig::from_file(files.scheduler_config())?;
        let tokenizer = Arc::new(Tokenizer::from_folder(&files.tokenizer())?);
        Ok(Self {
            tokenizer,
            text_encoder: Arc::new(TextEncoder::open(&files, options)?),
            vae: Arc::new(Vae::open(&files, options)?),
            unet: Arc::new(Unet::open(&files, options)?),
            scheduler_config,
            options: options.clone(),
        })
    }

    /// Where the networks compute.
    pub fn device(&self) -> &Device {
        &self.options.device
    }

    /// The type of activations.
    pub fn compute_dtype(&self) -> DType {
        self.options.types().compute
    }
}

/// What a network computed, unless it holds NaN or infinities. These results are small; inner activations are looked at where they are kept.
fn finite(what: &'static str, computed: Tensor) -> Result<Tensor> {
    match require_finite(&computed) {
        Ok(()) => Ok(computed),
        Err(ElementError::Tensors(source)) => Err(source.into()),
        Err(ElementError::NotFinite { .. } | ElementError::TooLarge { .. }) => Err(InputError::NotFinite { what }.into()),
    }
}

impl Unet {
    /// Loads the noise predictor alone.
    ///
    /// # Errors
    /// When it is missing, damaged, or not Stable Diffusion 1.5's.
    pub fn open(files: &ModelFiles, options: &ModelOptions) -> Result<Self> {
        Self::load(UnetConfig::from_file(&files.config(Network::Unet))?, options.weights(files, Network::Unet)?)
    }
}

impl Vae {
    /// Loads the autoencoder alone.
    ///
    /// # Errors
    /// When it is missing, damaged, or not Stable Diffusion 1.5's.
    pub fn open(files: &ModelFiles, options: &ModelOptions) -> Result<Self> {
        Self::load(VaeConfig::from_file(&files.config(Network::Vae))?, options.weights(files, Network::Vae)?)
    }
}

impl TextEncoder {
    /// Loads the text encoder alone.
    ///
    /// # Errors
    /// When it is missing, damaged, or not Stable Diffusion 1.5's.
    pub fn open(files: &ModelFiles, options: &ModelOptions) -> Result<Self> {
        Self::load(
            TextEncoderConfig::from_file(&files.config(Network::TextEncoder))?,
            options.weights(files, Network::TextEncoder)?,
        )
    }
}
