//! The adapter files that a path stands for: a file itself, or those of a folder.

use super::{AdapterFile, UnknownKeys};
use crate::error::{AdapterCause, Error, ModelFileCause, Result};
use crate::formats::WeightFile;
use std::path::{Path, PathBuf};

/// What diffusers and PEFT call the adapter in a folder.
const NAMES: [&str; 4] =
    ["pytorch_lora_weights.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.bin", "adapter_model.bin"];

/// What marks the folder of a training state, and what the adapter in it is called.
const STATE: (&str, &str) = ("state.json", "adapter.safetensors");

/// Folders of networks in PEFT's form.
const NETWORKS: [&str; 2] = ["unet", "text_encoder"];

/// The adapter files that a path stands for: itself, or those of a folder, which may be diffusers', PEFT's, one with PEFT's for each
/// network, or a training state.
///
/// # Errors
/// [`Error::File`] for a folder without an adapter; a pipeline is named as such.
pub fn files_at(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let in_folder = |folder: &Path| NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    let of_state = || path.join(STATE.0).is_file().then(|| path.join(STATE.1)).filter(|file| file.is_file());
    let found: Vec<PathBuf> = match in_folder(path).or_else(of_state) {
        Some(file) => vec![file],
        None => NETWORKS.iter().filter_map(|network| in_folder(&path.join(network))).collect(),
    };
    match found.is_empty() {
        false => Ok(found),
        true if path.join("model_index.json").is_file() => {
            let cause = ModelFileCause::NotAnAdapter { kind: "a diffusers pipeline".to_owned() };
            Err(Error::file(path, cause, "give a LoRA's file or folder"))
        }
        true => Err(Error::file(path, ModelFileCause::FolderWithoutAdapter { names: &NAMES }, "give the adapter's file")),
    }
}

impl AdapterFile {
    /// Reads the adapter that a file or folder holds, all of its files as one.
    ///
    /// # Errors
    /// Those of [`files_at`] and [`AdapterFile::from_weights`], and [`Error::Tensor`] for a layer that two files change.
    pub fn open_at(path: &Path, unknown_keys: UnknownKeys) -> Result<Self> {
        let mut whole: Option<Self> = None;
        for file in files_at(path)? {
            let part = Self::from_weights(&WeightFile::open(&file)?, unknown_keys)?;
            whole = Some(match whole {
                None => part,
                Some(whole) => whole.joined(part)?,
            });
        }
        let mut whole = whole.ok_or_else(|| {
            Error::file(path, ModelFileCause::FolderWithoutAdapter { names: &NAMES }, "give the adapter's file")
        })?;
        whole.path = path.to_owned();
        Ok(whole)
    }

    /// Both as one.
    fn joined(mut self, other: Self) -> Result<Self> {
        for ((network, layer), adapter) in other.entries {
            if self.entries.contains_key(&(network, layer.clone())) {
                let (key, network) = (format!("{network}.{layer}"), network.name());
                let cause = AdapterCause::TwoSpellings { other: self.path.display().to_string(), layer, network };
                return Err(Error::tensor(other.path, key, cause));
            }
            self.entries.insert((network, layer), adapter);
        }
        self.schemes.extend(other.schemes);
        self.unknown_keys.extend(other.unknown_keys);
        for (key, value) in other.metadata {
            self.metadata.entry(key).or_insert(value);
        }
        Ok(self)
    }
}
