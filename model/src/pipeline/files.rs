//! Where the components of a model are: a diffusers folder, or one file in the original (LDM) layout with a folder of its base model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{FileCause, ModelFileCause};
use crate::layers::TensorSource;
use crate::model_family::{ModelFamily, Network};
use crate::tokenizer::Tokenizer;
use crate::unet::UnetConfig;
use crate::weights::{Component, ModelWeights};
use crate::{Error, Result};

/// A model's files.
pub struct ModelFiles {
    /// The folder with the configurations and the tokenizer.
    folder: PathBuf,
    weights: ModelWeights,
    /// The UNet that takes the place of the model's.
    unet: Option<Component>,
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
            return Ok(Self { folder: folder.to_owned(), weights: ModelWeights::open(path)?, unet: None, prefer_half });
        }
        if !path.is_dir() {
            return Err(Error::file(path, FileCause::NotFound, "give a diffusers folder, a checkpoint file or a hub id"));
        }
        Ok(Self { folder: path.to_owned(), weights: ModelWeights::open_folder(path)?, unet: None, prefer_half })
    }

    /// The same model with another UNet in the place of its own: that of a file (diffusers' names, or a checkpoint in LDM naming), of a
    /// UNet's own folder, or of a diffusers folder. The model's own weights are not looked at, its configuration is.
    ///
    /// # Errors
    /// When there is no UNet, or one of another architecture than the model's, as far as headers and configurations tell; weights that are
    /// missing or of another shape are told when it is loaded.
    pub fn with_unet(self, path: &Path) -> Result<Self> {
        let folder = match path.join(Network::Unet.name()) {
            inner if inner.is_dir() => inner,
            _ => path.to_owned(),
        };
        let unet = match (path.is_dir(), path.is_file()) {
            (true, _) => Component::open(Network::Unet, &folder, self.prefer_half)?,
            (false, true) => Component::open_file(Network::Unet, path)?,
            (false, false) => {
                return Err(Error::file(path, FileCause::NotFound, "give a UNet's weights, or a folder of diffusers"));
            }
        };
        let model = || self.weights.path().to_owned();
        if let Some(found) = unet.family().filter(|found| *found != self.family()) {
            let cause = ModelFileCause::UnetOfFamily { found: found.name, expected: self.family().name, model: model() };
            return Err(Error::file(path, cause, "give a UNet of the model's own kind, or its model"));
        }
        let own = folder.join("config.json");
        if path.is_dir() && own.is_file() {
            let own = UnetConfig::from_file(&own)?;
            if !own.takes_weights_of(&UnetConfig::from_file(&self.config(Network::Unet))?) {
                let cause = ModelFileCause::OtherUnet { model: model() };
                return Err(Error::file(path, cause, "give a UNet of the model's own sizes, or its model"));
            }
        }
        Ok(Self { unet: Some(unet), ..self })
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
    /// has the weights, `unet` for that of a UNet which takes the place of the model's.
    ///
    /// # Errors
    /// As [`Self::weights`].
    pub fn sources(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut paths = vec![self.scheduler_config()];
        paths.extend(Tokenizer::files(&self.tokenizer()));
        for network in Network::PIPELINE {
            paths.push(self.config(network));
            if !self.is_replaced(network) {
                let weights = self.weights.component(network, self.prefer_half)?;
                paths.extend(weights.file().files().map(Path::to_owned));
            }
        }
        paths.retain(|path| path.is_file());
        let mut named: Vec<(String, PathBuf)> = paths.into_iter().map(|path| (self.name_of(&path), path)).collect();
        named.extend(self.unet.iter().flat_map(of_its_own));
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
        match &self.unet {
            Some(unet) if self.is_replaced(network) => Ok(Arc::new(unet.clone())),
            Some(_) | None => Ok(Arc::new(self.weights.component(network, self.prefer_half)?)),
        }
    }

    fn is_replaced(&self, network: Network) -> bool {
        network == Network::Unet && self.unet.is_some()
    }
}

/// The files of a UNet that takes the place of a model's: named by what they are, and only where there are several also as they are called.
fn of_its_own(unet: &Component) -> Vec<(String, PathBuf)> {
    let name = Network::Unet.name();
    let files: Vec<PathBuf> = unet.file().files().map(Path::to_owned).collect();
    match &files[..] {
        [file] => vec![(name.to_owned(), file.clone())],
        files => {
            let named =
                |file: &PathBuf| (format!("{name}: {}", file.file_name().unwrap_or_default().to_string_lossy()), file.clone());
            files.iter().map(named).collect()
        }
    }
}

/// The folder of a single file, if it holds the configurations.
fn beside(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| parent.join("unet/config.json").is_file())
}
