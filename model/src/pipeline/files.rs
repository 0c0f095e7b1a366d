//! Where the parts of a model are: a diffusers folder, or one file in the original (LDM) layout.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::source::FileSource;
use crate::formats::{WeightFile, read_config};
use crate::layers::TensorSource;
use crate::model_family::naming;
use crate::{Error, Result};

/// A part of a pipeline that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The noise predictor.
    Unet,
    /// The autoencoder.
    Vae,
    /// The text encoder.
    TextEncoder,
}

impl Part {
    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
        }
    }

    /// The weight file's name without extension, as diffusers and transformers write it.
    fn stem(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae => "diffusion_pytorch_model",
            Self::TextEncoder => "model",
        }
    }

    fn ldm(self) -> naming::ldm::Part {
        match self {
            Self::Unet => naming::ldm::Part::Unet,
            Self::Vae => naming::ldm::Part::Vae,
            Self::TextEncoder => naming::ldm::Part::TextEncoder,
        }
    }
}

/// A model's files.
pub struct ModelFiles {
    /// The folder with the configurations and the tokenizer.
    folder: PathBuf,
    /// Set when the weights are one LDM file.
    single: Option<Arc<WeightFile>>,
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
    /// When this is no Stable Diffusion 1.5 model, naming what was found instead.
    pub fn open(path: &Path, base: Option<&Path>, prefer_half: bool) -> Result<Self> {
        if path.is_file() {
            let folder = beside(path).or(base).ok_or_else(|| {
                let problem = "is a single checkpoint file, which holds no tokenizer and no configuration";
                Error::file(
                    path,
                    problem,
                    "put it into a diffusers folder of its base model, or convert it with `convert diffusers`",
                )
            })?;
            let file = Arc::new(WeightFile::open(path)?);
            return Ok(Self { folder: folder.to_owned(), single: Some(file), prefer_half });
        }
        if !path.is_dir() {
            return Err(Error::file(path, "does not exist", "give a diffusers folder, a checkpoint file or a hub id"));
        }
        refuse_other_architectures(path)?;
        Ok(Self { folder: path.to_owned(), single: None, prefer_half })
    }

    /// The configuration of a part.
    pub fn config(&self, part: Part) -> PathBuf {
        self.folder.join(part.folder()).join("config.json")
    }

    /// The tokenizer's folder.
    pub fn tokenizer(&self) -> PathBuf {
        self.folder.join("tokenizer")
    }

    /// The scheduler's configuration.
    pub fn scheduler_config(&self) -> PathBuf {
        self.folder.join("scheduler/scheduler_config.json")
    }

    /// The tensors of a part.
    ///
    /// # Errors
    /// When the weight file is missing, truncated or of another kind.
    pub fn weights(&self, part: Part) -> Result<Arc<dyn TensorSource>> {
        match &self.single {
            Some(file) => {
                let names: HashMap<String, String> = naming::ldm::table(file.names(), part.ldm()).into_iter().collect();
                if names.is_empty() {
                    let problem = format!("has no weights of the {} in LDM naming", part.folder());
                    return Err(Error::file(file.path(), problem, "`convert inspect` says what the file is"));
                }
                Ok(Arc::new(FileSource::renamed(file.clone(), names)))
            }
            None => {
                Ok(Arc::new(FileSource::plain(open_weights(&self.folder.join(part.folder()), part.stem(), self.prefer_half)?)))
            }
        }
    }
}

/// The folder of a single file, if it holds the configurations.
fn beside(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| parent.join("unet/config.json").is_file())
}

/// The tensors of a network that has a folder to itself, such as a ControlNet.
///
/// # Errors
/// When the folder has no weight file, or it cannot be read.
pub(super) fn network_weights(folder: &Path, prefer_half: bool) -> Result<Arc<dyn TensorSource>> {
    Ok(Arc::new(FileSource::plain(open_weights(folder, Part::Unet.stem(), prefer_half)?)))
}

/// Opens the weight file of a network's folder under the names that diffusers and transformers use.
fn open_weights(folder: &Path, stem: &str, prefer_half: bool) -> Result<WeightFile> {
    let pickled = if stem == "model" { "pytorch_model" } else { stem };
    let full = [format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json")];
    let half = [
        format!("{stem}.fp16.safetensors"),
        format!("{stem}.safetensors.index.fp16.json"),
        format!("{stem}.fp16.safetensors.index.json"),
    ];
    let old = [format!("{pickled}.bin"), format!("{pickled}.fp16.bin")];
    let (full, half): (Vec<String>, Vec<String>) = (full.into(), half.into());
    let order = if prefer_half { [half, full] } else { [full, half] };
    for name in order.into_iter().flatten().chain(old) {
        let path = folder.join(&name);
        if path.is_file() {
            return if name.contains(".index.") { WeightFile::open_sharded(path) } else { WeightFile::open(path) };
        }
    }
    let problem = format!("has no weights: looked for {stem}.safetensors, its fp16 variant, a sharded index and {pickled}.bin");
    Err(Error::file(folder, problem, "the model folder is incomplete; copy or download it again"))
}

/// Refuses SDXL and other pipelines by what their model_index.json says; a folder without one is taken at its parts' word.
fn refuse_other_architectures(folder: &Path) -> Result<()> {
    let index = folder.join("model_index.json");
    if folder.join("text_encoder_2").is_dir() {
        return Err(Error::file(
            folder,
            "has two text encoders: this is an SDXL model",
            "driftless supports Stable Diffusion 1.5 only",
        ));
    }
    if !index.is_file() {
        if folder.join("unet").is_dir() {
            return Ok(());
        }
        let problem = "is not a diffusers model folder: it has neither model_index.json nor unet/";
        return Err(Error::file(folder, problem, "give the folder that holds unet/, vae/, text_encoder/ and tokenizer/"));
    }
    let class = read_config::<Value>(&index)?["_class_name"].as_str().unwrap_or_default().to_owned();
    if class.contains("XL") || !class.starts_with("StableDiffusion") {
        let problem = format!("describes a `{class}`; expected a StableDiffusionPipeline");
        return Err(Error::config(index, "_class_name", format!("{problem}; driftless supports Stable Diffusion 1.5 only")));
    }
    Ok(())
}
