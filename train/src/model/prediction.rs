//! What the base model is and predicts: Stable Diffusion 1 or 2, the noise or the velocity. Taking one prediction for the other trains
//! towards noise, and an adapter that names a wrong base model is useless.

use super::fault::ModelFault;
use crate::monitor::Console;
use crate::options::Options;
use anyhow::Result;
use driftless::formats::{WeightFile, read_config};
use driftless::model_family::{ModelFamily, recognition};
use driftless::unet::UnetConfig;
use serde_json::Value;
use std::path::Path;

/// Compares `--v2` and `--v_parameterization` with what the model at `model` says of itself; a model that says nothing predicts
/// the noise.
///
/// # Errors
/// When the model is of another version, or predicts the velocity and this was not asked for.
pub fn check(model: &Path, options: &Options, console: &Console) -> Result<()> {
    check_version(model, options)?;
    if options.model.v2 && options.model.clip_skip.is_some_and(|skip| skip > 1) {
        console.warn(
            "--clip_skip: the text encoder of Stable Diffusion 2 ends with the last layer but one already; one more is skipped now",
        );
    }
    let config = model.join("scheduler/scheduler_config.json");
    let stated =
        if config.is_file() { read_config::<Value>(&config)?["prediction_type"].as_str().map(str::to_owned) } else { None };
    match (stated.as_deref(), options.objective.v_parameterization) {
        (Some("v_prediction"), false) => return Err(ModelFault::Velocity { config }.into()),
        (Some("epsilon") | None, true) => {
            let model = if options.model.v2 {
                "this model predicts the velocity"
            } else {
                "this model does, as Stable Diffusion 1.5 does not"
            };
            console.warn(format!("--v_parameterization: nothing says that {model}"));
        }
        _ => {}
    }
    Ok(())
}

fn check_version(model: &Path, options: &Options) -> Result<()> {
    let Some(family) = family(model)? else { return Ok(()) };
    match (family.kohya_v2, options.model.v2) {
        (true, false) => Err(ModelFault::IsV2 { model: model.to_owned(), family }.into()),
        (false, true) => Err(ModelFault::IsNotV2 { model: model.to_owned(), family }.into()),
        (true, true) | (false, false) => Ok(()),
    }
}

/// The family that a model's own files show: a folder's by its UNet's configuration, a checkpoint's by its tensors.
fn family(model: &Path) -> Result<Option<&'static ModelFamily>> {
    if model.is_file() {
        return Ok(recognition::of_checkpoint(&WeightFile::open(model)?));
    }
    let config = model.join("unet/config.json");
    Ok(if config.is_file() { Some(UnetConfig::from_file(&config)?.family()) } else { None })
}
