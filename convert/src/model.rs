//! A whole model to read from: a diffusers folder, an LDM file, or a repository on a hub.

use crate::fault::Fault;
use driftless::hub;
use driftless::model_family::{ModelFamily, Network};
use driftless::weights::{Component, ModelWeights, UnetWeights};
use driftless::{Error, Result};
use driftless_cli::Console;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The path of a model on this machine; a hub id is downloaded if it is not cached. `half` prefers half-precision weights.
pub fn locate(model: &str, half: bool, console: &Console) -> Result<PathBuf> {
    hub::resolve(model, &driftless_cli::hub::options(None, half, console))
}

/// A model's networks under diffusers' names.
pub struct Model {
    /// Its folder or file.
    pub path: PathBuf,
    /// What it is a model of.
    pub family: &'static ModelFamily,
    components: BTreeMap<Network, Component>,
}

impl Model {
    /// Opens a model; `ema` takes the moving averages of an LDM file's UNet.
    pub fn open(model: &str, ema: bool, console: &Console) -> Result<Self> {
        Self::open_path(locate(model, false, console)?, ema)
    }

    /// Opens a folder or a file.
    pub fn open_path(path: PathBuf, ema: bool) -> Result<Self> {
        let weights = if path.is_dir() {
            if ema {
                return Err(Error::argument("--ema", Fault::ForCheckpoints));
            }
            ModelWeights::open_folder(&path)?
        } else {
            ModelWeights::open_checkpoint(&path, if ema { UnetWeights::MovingAverage } else { UnetWeights::Trained })?
        };
        let mut components = BTreeMap::new();
        for network in Network::PIPELINE.into_iter().filter(|network| weights.has(*network)) {
            components.insert(network, weights.component(network, false)?);
        }
        components.retain(|_, component| !component.is_empty());
        if components.is_empty() {
            return Err(Error::file(path, Fault::NoNetwork, "give a diffusers folder, a checkpoint file or a hub id"));
        }
        Ok(Self { path, family: weights.family(), components })
    }

    /// A network, where the model has it.
    pub fn network(&self, network: Network) -> Option<&Component> {
        self.components.get(&network)
    }

    /// The shape of the weight of a layer.
    pub fn weight_shape(&self, network: Network, path: &str) -> Option<Vec<usize>> {
        Some(self.network(network)?.info(&format!("{path}.weight"))?.shape.clone())
    }

    /// The folder with configurations and tokenizer, where the model is one.
    pub fn folder(&self) -> Option<&Path> {
        Some(self.path.as_path()).filter(|path| path.is_dir())
    }
}
