//! What the base model predicts: the noise, as Stable Diffusion 1.5, or the velocity. Taking one for the other trains towards noise.

use crate::monitor::Console;
use crate::options::Options;
use anyhow::{Result, bail};
use driftless::formats::read_config;
use serde_json::Value;
use std::path::Path;

/// Compares `--v_parameterization` with what the model folder at `place` says of itself; a folder that says nothing predicts the noise.
///
/// # Errors
/// When the model predicts the velocity and this was not asked for.
pub fn check(place: &Path, options: &Options, console: &Console) -> Result<()> {
    let config = place.join("scheduler/scheduler_config.json");
    let stated =
        if config.is_file() { read_config::<Value>(&config)?["prediction_type"].as_str().map(str::to_owned) } else { None };
    match (stated.as_deref(), options.objective.v_parameterization) {
        (Some("v_prediction"), false) => bail!(
            "{}: says that the model predicts the velocity, which Stable Diffusion 1.5 does not; if this is meant, give --v_parameterization",
            config.display()
        ),
        (Some("epsilon") | None, true) => {
            console
                .warn("--v_parameterization: Stable Diffusion 1.5 predicts the noise, and nothing says that this model does not");
        }
        _ => {}
    }
    Ok(())
}
