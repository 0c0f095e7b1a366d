//! Where the components of a model are: a diffusers folder, or one file in the original (LDM) layout with a folder of its base model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{FileCause, ModelFileCause};
use crate::layers::TensorSource;
use crate::model_family::{ModelFamily, Network};
use crate::tokenizer::Tokenizer;
use crate::weights::ModelWeights;
use crate::{Error, Result};

/// A model's files.
pub struct ModelFiles {
    /// The folder with the configurations and the tokenizer.
    folder: PathBuf,
    weights: ModelWeights,
    prefer_half: bool,
}

impl ModelFiles {
    /// Whether a model has its configurations and tokenizer: a folder, or a single file in one. Any other single file needs a base.
    pub fn is_complete(path: &Path) -> bool {
        !path.is_file() || beside(path).is_some()
    }

    /// Looks at a diffusers folder or a single file. `prefer_half` takes `*.fp16.safetensors` where both precisions are there.
    ///
    /// A single file has no configurations and no tokenizer; they are looked for beside it (`unet/config.json` and so on), and
    /// else in `base`, a diffusers folder of the same architecture.
    ///
    /// # Errors
    /// When this is no model of a supported family, naming what was found instead.
    pub fn open(path: &Path, base: Option<&Path>, prefer_half: bool) -> Result<Self> {
        if path.is_file() {
            let folder = beside(path).or(base).ok_or_else(|| {
                Error::file(
                    path,
                    ModelFileCause::SingleFile,
                    "put it into a diffusers folder of its base model, or convert it with `convert diffusers`",
                )
            })?;
            return Ok(Self { folder: folder.to_owned(), weights: ModelWeights::open(path)?, prefer_half });
        }
        if !path.is_dir() {
            return Err(Error::file(path, FileCause::NotFound, "give a diffusers folder, a checkpoint file or a hub id"));
        }
        Ok(Self { folder: path.to_owned(), weights: ModelWeights::open_folder(path)?, prefer_half })
    }

    /// What it is a model of.
    pub fn family(&self) -> &'static ModelFamily {
        self.weights.family()
    }

    /// The configuration of a network.
    pub fn config(&self, network: Network) -> PathBuf {
        self.folder.join(network.name()).join("config.json")
    }

    /// The tokenizer's folder.
    pub fn tokenizer(&self) -> PathBuf {
        self.folder.join("tokenizer")
    }

    /// The scheduler's configuration.
    pub fn scheduler_config(&self) -> PathBuf {
        self.folder.join("scheduler/scheduler_config.json")
    }

    /// The files that a pipeline is loaded from, each with its name in the model: `unet/config.json`, or `checkpoint` for the one file that
    /// has the weights.
    ///
    /// # Errors
    /// As [`Self::weights`].
    pub fn sources(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut paths = vec![self.scheduler_config()];
        paths.extend(Tokenizer::files(&self.tokenizer()));
        for network in Network::PIPELINE {
            paths.push(self.config(network));
            let weights = self.weights.component(network, self.prefer_half)?;
            paths.extend(weights.file().files().map(Path::to_owned));
        }
        paths.retain(|path| path.is_file());
        let mut named: Vec<(String, PathBuf)> = paths.into_iter().map(|path| (self.name_of(&path), path)).collect();
        named.sort();
        named.dedup();
        Ok(named)
    }

    fn name_of(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.folder).ok().filter(|_| path != self.weights.path());
        match inside {
            Some(inside) => inside.to_string_lossy().replace('\\', "/"),
            None => "checkpoint".to_owned(),
        }
    }

    /// The tensors of a network.
    ///
    /// # Errors
    /// When the weight file is missing, truncated or of another kind.
    pub fn weights(&self, network: Network) -> Result<Arc<dyn TensorSource>> {
        Ok(Arc::new(self.weights.component(network, self.prefer_half)?))
    }
}

/// The folder of a single file, if it holds the configurations.
fn beside(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| parent.join("unet/config.json").is_file())
}
