//! `--vae`: an autoencoder from elsewhere; and which autoencoder a run has, for the cache of its latents.

use super::fault::ModelFault;
use super::location;
use crate::options::{ModelOptions, Precision};
use anyhow::{Context, Result};
use driftless::formats::open_regular;
use driftless::hub::HubOptions;
use driftless::layers::{WeightType, Weights};
use driftless::model_family::Network;
use driftless::pipeline;
use driftless::vae::{Vae, VaeConfig};
use driftless::weights::{Component, ModelWeights};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The autoencoder that `--vae` names; `None` without it. `model` is the folder or file of the whole model, whose configuration serves
/// a file that has none.
///
/// # Errors
/// When there is no autoencoder of Stable Diffusion there.
pub fn load(options: &ModelOptions, model: &Path, loading: &pipeline::ModelOptions, hub: &HubOptions) -> Result<Option<Vae>> {
    let Some(vae) = path(options, hub)? else { return Ok(None) };
    let named = || format!("--vae {}", vae.display());
    let (config, component) = open(options, &vae, Some(model)).with_context(named)?;
    let types = WeightType::new(loading.dtype, &loading.device);
    let weights = Weights::new(Arc::new(component), &loading.device, types);
    Ok(Some(Vae::load(config, weights).with_context(named)?))
}

/// Its configuration and the header of its file, if it is on this machine; `None` without `--vae`, and when it is to be downloaded.
///
/// # Errors
/// As [`load`].
pub fn look(options: &ModelOptions, model: Option<&Path>) -> Result<Option<(VaeConfig, Component)>> {
    let Some(Some(vae)) = location::without_download(|hub| path(options, hub))? else { return Ok(None) };
    open(options, &vae, model).with_context(|| format!("--vae {}", vae.display())).map(Some)
}

fn open(options: &ModelOptions, vae: &Path, model: Option<&Path>) -> driftless::Result<(VaeConfig, Component)> {
    let prefer_half = options.mixed_precision != Precision::No;
    if vae.is_dir() && !vae.join("vae").is_dir() {
        // A folder of the autoencoder alone: config.json and weights.
        let component = Component::open(Network::Vae, vae, false)?;
        return Ok((VaeConfig::from_file(&vae.join("config.json"))?, component));
    }
    if vae.is_dir() {
        let component = ModelWeights::open_folder(vae)?.component(Network::Vae, prefer_half)?;
        return Ok((VaeConfig::from_file(&vae.join("vae/config.json"))?, component));
    }
    let folder = model.map(|model| if model.is_dir() { model } else { model.parent().unwrap_or(model) });
    let config = match folder.map(|folder| folder.join("vae/config.json")).filter(|config| config.is_file()) {
        Some(config) => VaeConfig::from_file(&config)?,
        None => VaeConfig::stable_diffusion_1_5(),
    };
    Ok((config, Component::open_file(Network::Vae, vae)?))
}

fn path(options: &ModelOptions, hub: &HubOptions) -> Result<Option<PathBuf>> {
    options.vae.as_ref().map(|vae| location::find_at(vae, hub).with_context(|| format!("--vae {vae}"))).transpose()
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

/// Identifies the autoencoder of a run and the type it computes in: latents of another one must not be used.
///
/// # Errors
/// When its files cannot be read.
pub fn identity(options: &ModelOptions, model: &Path) -> Result<String> {
    // Downloaded by now, so there is no progress to report.
    let vae = path(options, &HubOptions::from_env())?.unwrap_or_else(|| model.to_owned());
    let mut hash = Sha256::new();
    let folder = if vae.join("vae").is_dir() { vae.join("vae") } else { vae };
    let files = if folder.is_dir() { weight_files(&folder) } else { vec![folder.clone()] };
    if files.is_empty() {
        return Err(ModelFault::NoWeights { folder }.into());
    }
    for path in files {
        let mut file = open_regular(&path)?;
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
