//! `--vae`: an autoencoder from elsewhere; and which autoencoder a run has, for the cache of its latents.

use super::place;
use crate::options::{ModelOptions, Precision};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use driftless::formats::WeightFile;
use driftless::layers::{TensorSource, WeightType, Weights};
use driftless::model_family::naming::ldm;
use driftless::pipeline::ModelFiles;
use driftless::vae::{Vae, VaeConfig};
use driftless::{Error, pipeline};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tensors of a file under diffusers' names.
struct Named {
    file: WeightFile,
    names: HashMap<String, String>,
}

impl TensorSource for Named {
    fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    fn tensor(&self, name: &str, _: &[usize], device: &Device) -> driftless::Result<Tensor> {
        let Some(stored) = self.names.get(name) else {
            return Err(Error::tensor(self.file.path(), name, "is missing; the file is no autoencoder of Stable Diffusion 1.5"));
        };
        self.file.tensor(stored, device)
    }

    fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }
}

/// The autoencoder that `--vae` names; `None` without it. `model` is the folder or file of the whole model, whose configuration serves
/// a file that has none.
///
/// # Errors
/// When there is no autoencoder of Stable Diffusion 1.5 at that place.
pub fn load(options: &ModelOptions, model: &Path, loading: &pipeline::ModelOptions) -> Result<Option<Vae>> {
    let Some(place) = path(options)? else { return Ok(None) };
    let named = || format!("--vae {}", place.display());
    let types = WeightType::new(loading.dtype, &loading.device);
    let weights = |source: Arc<dyn TensorSource>| Weights::new(source, &loading.device, types.clone());
    if place.is_dir() && !place.join("vae").is_dir() {
        // A folder of the autoencoder alone: config.json and weights.
        let file = weight_files(&place).into_iter().next().with_context(|| format!("{}: has no weights", named()))?;
        let config = VaeConfig::from_file(&place.join("config.json")).with_context(named)?;
        return Ok(Some(Vae::load(config, weights(from_file(&file)?)).with_context(named)?));
    }
    if place.is_dir() {
        let files = ModelFiles::open(&place, None, loading.dtype != candle_core::DType::F32).with_context(named)?;
        return Ok(Some(Vae::open(&files, loading).with_context(named)?));
    }
    let beside = |folder: &Path| folder.join("vae/config.json");
    let folder = if model.is_dir() { model } else { model.parent().unwrap_or(model) };
    let config = match beside(folder).is_file() {
        true => VaeConfig::from_file(&beside(folder)).with_context(named)?,
        false => VaeConfig::stable_diffusion_1_5(),
    };
    Ok(Some(Vae::load(config, weights(from_file(&place)?)).with_context(named)?))
}

/// The tensors of a file in diffusers' or LDM's naming, of an autoencoder alone or of a whole checkpoint.
fn from_file(path: &Path) -> Result<Arc<dyn TensorSource>> {
    let file = WeightFile::open(path).with_context(|| format!("--vae {}", path.display()))?;
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    let mut found: HashMap<String, String> = HashMap::new();
    if names.iter().any(|name| name == "encoder.conv_norm_out.weight") {
        found.extend(names.iter().map(|name| (name.clone(), name.clone())));
    } else {
        // Alone, LDM's autoencoder goes without the prefix that it has in a checkpoint.
        let prefix = if names.iter().any(|name| name.starts_with(ldm::VAE_PREFIX)) { "" } else { ldm::VAE_PREFIX };
        let prefixed: Vec<String> = names.iter().map(|name| format!("{prefix}{name}")).collect();
        let table = ldm::table(prefixed.iter().map(String::as_str), ldm::Part::Vae);
        found.extend(table.into_iter().map(|(ours, theirs)| {
            let stored = if prefix.is_empty() { theirs } else { theirs.trim_start_matches(ldm::VAE_PREFIX).to_owned() };
            (ours, stored)
        }));
    }
    ensure!(!found.is_empty(), "--vae {}: holds no autoencoder; `convert inspect` says what it is", path.display());
    Ok(Arc::new(Named { file, names: found }))
}

fn path(options: &ModelOptions) -> Result<Option<PathBuf>> {
    options.vae.as_ref().map(|vae| place::find_at(vae).with_context(|| format!("--vae {vae}"))).transpose()
}

fn weight_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_weights = |path: &PathBuf| {
        path.extension().is_some_and(|extension| ["safetensors", "bin"].iter().any(|known| extension == *known)) && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries.filter(is_weights).collect();
    // Safetensors before torch's files, full precision before the `.fp16` variant.
    files.sort_by_key(|path| {
        let name = path.to_string_lossy().into_owned();
        (!name.ends_with(".safetensors"), name.contains(".fp16."), name)
    });
    files
}

/// A number for the autoencoder of a run and the type it computes in: latents of another one are none of this run's.
///
/// # Errors
/// When its files cannot be read.
pub fn identity(options: &ModelOptions, model: &Path) -> Result<String> {
    let place = path(options)?.unwrap_or_else(|| model.to_owned());
    let mut hash = Sha256::new();
    let folder = if place.join("vae").is_dir() { place.join("vae") } else { place.clone() };
    let files = if folder.is_dir() { weight_files(&folder) } else { vec![place] };
    ensure!(!files.is_empty(), "{}: has no weights", folder.display());
    for path in files {
        let mut file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
        std::io::copy(&mut file, &mut hash).with_context(|| path.display().to_string())?;
    }
    let precision = match options.mixed_precision {
        Precision::No => "float32",
        Precision::Fp16 => "float16",
        Precision::Bf16 => "bfloat16",
    };
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{digest} {precision}"))
}
