//! A whole model's weights: a pipeline folder, or one file in LDM naming.

use super::component::Component;
use super::ldm_checkpoint::{LdmCheckpoint, UnetWeights};
use crate::error::{Error, ModelFileCause, Result};
use crate::formats::{WeightFile, read_config};
use crate::model_family::{ModelFamily, Network, recognition, refused};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model to read networks from.
#[derive(Debug, Clone)]
pub struct ModelWeights {
    path: PathBuf,
    family: &'static ModelFamily,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// diffusers' folder.
    Folder,
    /// One file in LDM naming.
    Checkpoint(Box<LdmCheckpoint>),
}

impl ModelWeights {
    /// Looks at a diffusers folder or opens a single file; no weights are read.
    ///
    /// # Errors
    /// When there is nothing, or another architecture, which is named.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() { Self::open_folder(path) } else { Self::open_checkpoint(path, UnetWeights::Trained) }
    }

    /// Looks at a diffusers folder.
    ///
    /// # Errors
    /// When it is none, or of another architecture.
    pub fn open_folder(path: &Path) -> Result<Self> {
        refused::in_folder(path)?;
        if !path.join("model_index.json").is_file() && !path.join("unet").is_dir() {
            let advice = "give the folder that holds unet/, vae/, text_encoder/ and tokenizer/";
            return Err(Error::file(path, ModelFileCause::NotAModelFolder, advice));
        }
        let config = path.join("unet/config.json");
        let config: Value = if config.is_file() { read_config(&config)? } else { Value::Null };
        Ok(Self { path: path.to_owned(), family: recognition::of_unet_config(&config), form: Form::Folder })
    }

    /// Opens a single file.
    ///
    /// # Errors
    /// Those of [`WeightFile::open`] and of [`LdmCheckpoint::from_weights`].
    pub fn open_checkpoint(path: &Path, unet: UnetWeights) -> Result<Self> {
        let checkpoint = LdmCheckpoint::from_weights(Arc::new(WeightFile::open(path)?), unet)?;
        Ok(Self { path: path.to_owned(), family: checkpoint.family, form: Form::Checkpoint(Box::new(checkpoint)) })
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is a model of.
    pub fn family(&self) -> &'static ModelFamily {
        self.family
    }

    /// Whether the model has a network at all.
    pub fn has(&self, network: Network) -> bool {
        match &self.form {
            Form::Folder => self.path.join(network.name()).is_dir(),
            Form::Checkpoint(checkpoint) => checkpoint.component(network).is_some_and(|component| !component.is_empty()),
        }
    }

    /// A network's weights. Of a folder with both precisions `prefer_half` takes `*.fp16.*`.
    ///
    /// # Errors
    /// When the model does not have the network, or its file is missing, truncated or of another kind.
    pub fn component(&self, network: Network, prefer_half: bool) -> Result<Component> {
        match &self.form {
            Form::Folder => Component::open(network, &self.path.join(network.name()), prefer_half),
            Form::Checkpoint(checkpoint) => {
                let found = checkpoint.component(network).filter(|component| !component.is_empty());
                found.cloned().ok_or_else(|| {
                    let cause = ModelFileCause::NoLdmNetwork { network: network.name() };
                    Error::file(&self.path, cause, "`convert inspect` says what the file is")
                })
            }
        }
    }
}
