//! Where the model is: a folder, a file, or a repository on a hub.

use std::path::{Path, PathBuf};

use anyhow::Result;
use driftless::pipeline::{ModelFiles, ModelOptions, Part, Pipeline};
use driftless::unet::UnetConfig;

use crate::plan::ModelChoice;

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct ModelPlace {
    path: PathBuf,
    /// For a checkpoint file: the folder that has what it lacks.
    base: Option<PathBuf>,
    prefer_half: bool,
}

impl ModelPlace {
    /// Finds a model, downloading it if it is a hub id.
    ///
    /// # Errors
    /// When it is neither here nor on the hub.
    pub fn find(choice: &ModelChoice, options: &ModelOptions) -> Result<Self> {
        let path = locate(&choice.model)?;
        let base = choice.base.as_deref().map(locate).transpose()?;
        Ok(Self { path, base, prefer_half: options.dtype != candle_core::DType::F32 })
    }

    /// Finds a model of which the configuration alone is needed.
    ///
    /// # Errors
    /// As [`ModelPlace::find`].
    pub fn find_configuration(choice: &ModelChoice, options: &ModelOptions) -> Result<Self> {
        Self::find(choice, options)
    }

    /// The UNet's sizes.
    ///
    /// # Errors
    /// When this is no model of Stable Diffusion 1.5.
    pub fn unet_config(&self) -> Result<UnetConfig> {
        let files = ModelFiles::open(&self.path, self.base.as_deref(), self.prefer_half)?;
        Ok(UnetConfig::from_file(&files.config(Part::Unet))?)
    }

    /// Loads it.
    ///
    /// # Errors
    /// When a part is missing or damaged.
    pub fn load(&self, options: &ModelOptions) -> Result<Pipeline> {
        let options = ModelOptions { base: self.base.clone(), ..options.clone() };
        Ok(Pipeline::load(&self.path, &options)?)
    }
}

/// The folder of a ControlNet.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn find_controlnet(name: &str, _options: &ModelOptions) -> Result<PathBuf> {
    locate(name)
}

fn locate(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    anyhow::bail!("{name}: no such folder")
}
