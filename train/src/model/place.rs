//! Where the model is, and in which type it computes.

use crate::options::{ModelOptions, Precision};
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use driftless::hub::{self, HubOptions};
use driftless::pipeline::ModelFiles;
use std::path::{Path, PathBuf};

/// The model's folder or file on this machine, downloaded if it is a hub id.
///
/// # Errors
/// When it is neither here nor on the hub.
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

/// For a checkpoint in one file: the folder with the configurations and the tokenizer that it lacks.
///
/// # Errors
/// When they are neither here nor on the hub.
pub fn base(options: &ModelOptions, model: &Path, hub: &HubOptions) -> Result<Option<PathBuf>> {
    if ModelFiles::is_complete(model) {
        return Ok(None);
    }
    let base = hub::resolve_configuration(&options.base, hub);
    base.with_context(|| format!("--base {}", options.base)).map(Some)
}

/// The type that the frozen model is asked to compute in.
///
/// # Errors
/// For float16 on a GPU, whose gradients would need their loss scaled.
pub fn dtype(options: &ModelOptions, device: &Device) -> Result<DType> {
    match options.mixed_precision {
        Precision::No => Ok(DType::F32),
        Precision::Bf16 => Ok(DType::BF16),
        Precision::Fp16 if device.is_cpu() => Ok(DType::F16),
        Precision::Fp16 => {
            bail!("--mixed_precision fp16 is not supported on this device, because small gradients vanish; use bf16")
        }
    }
}
