//! Where the model is on this machine, and the type that it computes in.

use super::fault::ModelFault;
use crate::options::{ModelOptions, Precision};
use anyhow::{Context, Result};
use candle_core::{DType, Device};
use driftless::hub::{self, HubOptions};
use driftless::model_family::{ModelFamily, sd2, sd15};
use driftless::pipeline::ModelFiles;
use std::path::{Path, PathBuf};

/// The model's folder or file on this machine, downloaded if it is a hub id.
///
/// # Errors
/// When it is neither on this machine nor on the hub.
pub fn find(options: &ModelOptions, hub: &HubOptions) -> Result<PathBuf> {
    find_at(&options.pretrained_model_name_or_path, hub)
}

/// The folder or file of `model`, a path or a hub id.
///
/// # Errors
/// As [`find`].
pub fn find_at(model: &str, hub: &HubOptions) -> Result<PathBuf> {
    Ok(hub::resolve(model, hub)?)
}

/// A model that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Its folder or file.
    pub model: PathBuf,
    /// For a checkpoint in one file, the folder with what it lacks.
    pub base: Option<PathBuf>,
}

/// The model that `options` name, if it is on this machine; `None` when it has to be downloaded.
///
/// # Errors
/// When it is not on this machine and cannot be downloaded.
pub fn local(options: &ModelOptions) -> Result<Option<Local>> {
    let Some(model) = without_download(|hub| find(options, hub))? else { return Ok(None) };
    let base = without_download(|hub| base(options, &model, hub))?;
    Ok(base.map(|base| Local { model, base }))
}

/// What `look` finds without asking a hub; `None` when it has to be asked.
///
/// # Errors
/// Those of `look`, unless they may be mended by asking.
pub fn without_download<T>(look: impl FnOnce(&HubOptions) -> Result<T>) -> Result<Option<T>> {
    let usual = HubOptions::from_env();
    let may_ask = !usual.offline;
    match look(&HubOptions { offline: true, ..usual }) {
        Ok(found) => Ok(Some(found)),
        Err(error) if may_ask && matches!(error.downcast_ref(), Some(driftless::Error::Hub { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// For a checkpoint in one file: the folder with the configurations and the tokenizer that it lacks.
///
/// # Errors
/// When they are neither on this machine nor on the hub.
pub fn base(options: &ModelOptions, model: &Path, hub: &HubOptions) -> Result<Option<PathBuf>> {
    if ModelFiles::is_complete(model) {
        return Ok(None);
    }
    let named = options.base.as_deref().unwrap_or(family(options).repository);
    let base = hub::resolve_configuration(named, hub);
    base.with_context(|| format!("--base {named}")).map(Some)
}

/// The family that the options say the model is of.
pub fn family(options: &ModelOptions) -> &'static ModelFamily {
    if options.v2 { &sd2::FAMILY } else { &sd15::FAMILY }
}

/// The type that the frozen model is asked to compute in.
///
/// # Errors
/// For float16 on a GPU, whose gradients would need their loss scaled.
pub fn dtype(options: &ModelOptions, device: &Device) -> Result<DType, ModelFault> {
    match options.mixed_precision {
        Precision::No => Ok(DType::F32),
        Precision::Bf16 => Ok(DType::BF16),
        Precision::Fp16 if device.is_cpu() => Ok(DType::F16),
        Precision::Fp16 => Err(ModelFault::Float16),
    }
}
