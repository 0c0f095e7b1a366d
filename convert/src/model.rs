//! A whole model to read from: a diffusers folder, an LDM file, or a repository on a hub.

use crate::report::Report;
use driftless::adapter::files::Network;
use driftless::formats::WeightFile;
use driftless::hub::{self, HubOptions};
use driftless::model_family::naming::ldm::Part;
use driftless::weights::{Component, LdmCheckpoint, UnetWeights};
use driftless::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a model is on this machine; a hub id is downloaded where it is not there yet. `half` prefers half-precision weights.
pub fn place(model: &str, half: bool, report: &Report) -> Result<PathBuf> {
    let options = HubOptions { half, progress: Some(report.downloads()), ..HubOptions::from_env() };
    hub::resolve(model, &options)
}

/// A model's networks under diffusers' names.
pub struct Model {
    /// Where it stands: a folder or a file.
    pub path: PathBuf,
    components: BTreeMap<Part, Component>,
}

impl Model {
    /// Opens a model; `ema` takes the moving averages of an LDM file's UNet.
    pub fn open(model: &str, ema: bool, report: &Report) -> Result<Self> {
        Self::open_path(place(model, false, report)?, ema)
    }

    /// Opens a folder or a file.
    pub fn open_path(path: PathBuf, ema: bool) -> Result<Self> {
        let mut components = BTreeMap::new();
        if path.is_dir() {
            if ema {
                return Err(Error::argument("--ema", "is for checkpoint files; a folder has one set of weights"));
            }
            for part in Part::ALL.into_iter().filter(|part| path.join(part.folder()).is_dir()) {
                components.insert(part, Component::open(part, &path)?);
            }
        } else {
            let weights = if ema { UnetWeights::MovingAverage } else { UnetWeights::Trained };
            let checkpoint = LdmCheckpoint::from_weights(Arc::new(WeightFile::open(&path)?), weights)?;
            for part in Part::ALL {
                components.insert(part, checkpoint.component(part).clone());
            }
        }
        components.retain(|_, component| !component.is_empty());
        if components.is_empty() {
            let problem = "holds no network of a Stable Diffusion 1.5 model";
            return Err(Error::file(path, problem, "give a diffusers folder, a checkpoint file or a hub id"));
        }
        Ok(Self { path, components })
    }

    /// A network, where the model has it.
    pub fn component(&self, part: Part) -> Option<&Component> {
        self.components.get(&part)
    }

    /// The network that an adapter changes.
    pub fn network(&self, network: Network) -> Option<&Component> {
        self.component(part(network))
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

/// The part of a pipeline that a network is.
pub fn part(network: Network) -> Part {
    match network {
        Network::Unet => Part::Unet,
        Network::TextEncoder => Part::TextEncoder,
    }
}
