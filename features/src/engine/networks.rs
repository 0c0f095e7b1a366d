//! What is loaded once per model: the networks, adapters, the ControlNets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::DType;
use driftless::controlnet::ControlNet;
use driftless::error::ArgumentCause;
use driftless::model_family::Network;
use driftless::pipeline::{ModelFiles, ModelOptions, Pipeline};
use driftless::unet::UnetConfig;

use crate::set::PassKey;
use crate::{Error, Result};

use super::adapters::Adapters;
use super::contexts::Contexts;

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// A diffusers folder or a checkpoint in one file.
    pub path: PathBuf,
    /// For a checkpoint file: the folder that has what it lacks.
    pub base: Option<PathBuf>,
    /// A UNet in the place of the model's: file or folder.
    pub unet: Option<PathBuf>,
}

impl LocalModel {
    /// The UNet's sizes.
    ///
    /// # Errors
    /// When this is no model of a family that driftless has.
    pub fn unet_config(&self, dtype: DType) -> driftless::Result<UnetConfig> {
        UnetConfig::from_file(&self.files(dtype != DType::F32)?.config(Network::Unet))
    }

    /// Its files.
    ///
    /// # Errors
    /// As [`ModelFiles::open`] and [`ModelFiles::with_unet`].
    pub fn files(&self, prefer_half: bool) -> driftless::Result<ModelFiles> {
        let files = ModelFiles::open(&self.path, self.base.as_deref(), prefer_half)?;
        match &self.unet {
            Some(unet) => files.with_unet(unet),
            None => Ok(files),
        }
    }

    /// Loads it.
    ///
    /// # Errors
    /// When a part is missing or damaged.
    pub fn load(&self, options: &ModelOptions) -> driftless::Result<Pipeline> {
        Pipeline::load(&self.path, &ModelOptions { base: self.base.clone(), unet: self.unet.clone(), ..options.clone() })
    }
}

/// The loaded networks.
pub struct Networks {
    /// The model.
    pub pipeline: Pipeline,
    /// Adapters of its sets.
    pub adapters: Adapters,
    /// Prompts of its sets.
    pub contexts: Contexts,
    /// ControlNets by kind.
    pub controls: BTreeMap<String, ControlNet>,
}

impl Networks {
    /// Loads everything that `passes` use; the autoencoder's decoder only if one of them `decodes`. `controls` are folders by kind.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not of this model.
    pub fn load(
        passes: &[&PassKey],
        model: &LocalModel,
        controls: &BTreeMap<String, PathBuf>,
        options: &ModelOptions,
        decodes: bool,
    ) -> Result<Self> {
        let pipeline = model.load(options)?;
        if decodes {
            pipeline.vae.load_decoder()?;
        }
        let adapters = Adapters::load(&pipeline, passes)?;
        let open = |kind: &str| {
            let network = match controls.get(kind) {
                Some(folder) => ControlNet::open(folder, options),
                None => Err(driftless::Error::argument("ControlNet", ArgumentCause::Missing)),
            };
            let network = network.map_err(|cause| Error::ControlNet { kind: kind.to_owned(), cause })?;
            Ok((kind.to_owned(), network))
        };
        let controls = kinds(passes).into_iter().map(open).collect::<Result<_>>()?;
        Ok(Self { pipeline, adapters, contexts: Contexts::new(passes.len()), controls })
    }
}

/// The ControlNets that passes use, each once.
pub fn kinds<'a>(passes: &[&'a PassKey]) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = passes.iter().flat_map(|pass| &pass.control).map(|steering| steering.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
