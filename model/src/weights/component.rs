//! One network's weights under the names and shapes of today's diffusers and transformers, whatever the file calls them.

use crate::error::{Error, Result};
use crate::formats::shown;
use crate::formats::{TensorInfo, WeightFile};
use crate::model_family::naming::ldm::Part;
use crate::model_family::naming::{text_encoder, vae_attention};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A view of a weight file: diffusers names, each with the stored tensor that it is.
#[derive(Debug, Clone)]
pub struct Component {
    part: Part,
    file: Arc<WeightFile>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    stored: String,
    info: TensorInfo,
}

impl Component {
    /// A view of one network of a pipeline folder. Older spellings of the VAE's attention layer and text encoders without the
    /// `text_model.` level are understood; lists of positions are left out.
    ///
    /// # Errors
    /// [`Error::Tensor`] when a weight stands there under two spellings.
    pub fn from_diffusers(part: Part, file: Arc<WeightFile>) -> Result<Self> {
        let stored: Vec<String> = file.names().map(str::to_owned).collect();
        let pairs = stored.into_iter().filter(|name| !text_encoder::is_position_ids(name)).map(|name| match part {
            Part::Unet => (name.clone(), name),
            Part::Vae => (vae_attention::to_current(&name), name),
            Part::TextEncoder => (text_encoder::with_level(&name), name),
        });
        Self::from_pairs(part, file, pairs.collect())
    }

    /// Opens one network of a pipeline folder by its usual file names: safetensors, its `fp16` variant, a sharded index, or
    /// torch's `.bin`.
    ///
    /// # Errors
    /// [`Error::File`] when none of them is there, and those of [`WeightFile::open`].
    pub fn open(part: Part, pipeline: &Path) -> Result<Self> {
        let folder = pipeline.join(part.folder());
        let (stem, torch) = match part {
            Part::Unet | Part::Vae => ("diffusion_pytorch_model", "diffusion_pytorch_model"),
            Part::TextEncoder => ("model", "pytorch_model"),
        };
        let names = [
            format!("{stem}.safetensors"),
            format!("{stem}.safetensors.index.json"),
            format!("{stem}.fp16.safetensors"),
            format!("{torch}.bin"),
        ];
        let found: Option<PathBuf> = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        match found {
            Some(path) => Self::from_diffusers(part, Arc::new(WeightFile::open(path)?)),
            None => {
                let problem = format!("has no weights: {} and its variants are not there", names[0]);
                Err(Error::file(folder, problem, "give a diffusers pipeline folder with all its parts"))
            }
        }
    }

    /// A view by pairs of diffusers name and stored name, both of which exist.
    pub(crate) fn from_pairs(part: Part, file: Arc<WeightFile>, pairs: Vec<(String, String)>) -> Result<Self> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (name, stored) in pairs {
            let Some(mut info) = file.info(&stored).cloned() else {
                return Err(Error::tensor(file.path(), shown(&stored), "is missing"));
            };
            if part == Part::Vae
                && vae_attention::is_projection_weight(&name)
                && info.shape[2.min(info.shape.len())..].iter().all(|s| *s == 1)
            {
                info.shape.truncate(2);
            }
            if let Some(other) = entries.get(&name) {
                let problem = format!("and `{}` are both `{}`", shown(&other.stored), shown(&name));
                return Err(Error::tensor(file.path(), shown(&stored), problem));
            }
            entries.insert(name, Entry { stored, info });
        }
        Ok(Self { part, file, entries })
    }

    /// Which network this is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// The file behind.
    pub fn file(&self) -> &Arc<WeightFile> {
        &self.file
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All diffusers names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.entries.keys().map(String::as_str)
    }

    /// Type and shape of a weight: the shape that diffusers has, so two-dimensional for the VAE's attention.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.entries.get(name).map(|entry| &entry.info)
    }

    /// What the file calls a weight.
    pub fn stored_name(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|entry| entry.stored.as_str())
    }

    /// Reads a weight in its stored type.
    ///
    /// # Errors
    /// As [`WeightFile::tensor`].
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let Some(entry) = self.entries.get(name) else {
            return Err(Error::tensor(self.file.path(), name, "is missing"));
        };
        Ok(self.file.tensor(&entry.stored, device)?.reshape(entry.info.shape.as_slice())?)
    }
}
