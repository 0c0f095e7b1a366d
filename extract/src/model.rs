//! Where the model is: a folder, a file, or a repository on a hub, which is downloaded once and kept in the usual cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::DType;
use driftless::hub::{self, HubOptions};
use driftless::model_family::ModelFamily;
use driftless::model_family::Network;
use driftless::pipeline::{ModelFiles, ModelOptions};
use driftless::unet::UnetConfig;
use driftless::weights::ModelWeights;
use driftless_cli::Console;
use driftless_cli::device::{self, set_threads};
use features::engine::{LocalModel, Run};
use features::ids::IdMap;
use features::plan::{ControlChoice, RunPlan, Settings};
use features::set::ModelChoice;

use crate::args::Hardware;

/// Finds a model, downloading it if it is a hub id.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn find(choice: &ModelChoice, dtype: DType, console: &Console) -> Result<LocalModel> {
    let hub = hub_options(choice.revision.clone(), dtype, console);
    let path = hub::resolve(&choice.model, &hub).context("--model")?;
    let base = match ModelFiles::is_complete(&path) {
        true => None,
        false => {
            // What is no checkpoint is told before anything is fetched for it.
            ModelWeights::open(&path).context("--model")?;
            Some(hub::resolve_configuration(&choice.base, &hub).context("--base")?)
        }
    };
    Ok(LocalModel { path, base, unet: choice.unet.clone() })
}

/// What a run is computed with.
pub struct Equipment {
    /// Threads of the CPU.
    pub threads: usize,
    /// Where and in which type.
    pub options: ModelOptions,
    /// The models of the plan.
    pub models: IdMap<ModelChoice, LocalModel>,
}

/// Opens the device and finds the models of a plan.
///
/// # Errors
/// When the device cannot be opened, or a model is neither here nor on the hub, or of another family than `--version` names.
pub fn equip(plan: &RunPlan, settings: &Settings, hardware: Hardware, console: &Console) -> Result<Equipment> {
    let threads = set_threads(settings.threads)?;
    let device = device::open(hardware.device)?;
    let dtype = hardware.dtype.unwrap_or_else(|| device::default_dtype(&device));
    let models = find_all(plan, settings, dtype, console)?;
    Ok(Equipment { threads, options: ModelOptions { dtype, device, base: None, unet: None }, models })
}

/// The models of a plan, of the family that `--version` names where it names one.
fn find_all(plan: &RunPlan, settings: &Settings, dtype: DType, console: &Console) -> Result<IdMap<ModelChoice, LocalModel>> {
    plan.models.try_map(|_, choice| {
        let model = find(choice, dtype, console)?;
        match settings.version {
            Some(_) => check_family(model, plan.family),
            None => Ok(model),
        }
    })
}

/// The folders of a run's ControlNets, by kind.
///
/// # Errors
/// When one is neither here nor on the hub.
pub fn find_controlnets(run: &Run, dtype: DType, console: &Console) -> Result<BTreeMap<String, PathBuf>> {
    let folder =
        |(kind, choice): (&str, &ControlChoice)| Ok((kind.to_owned(), find_controlnet(kind, &choice.model, dtype, console)?));
    run.controls().into_iter().map(folder).collect()
}

/// The model is of another family than `--version` names.
#[derive(Debug, thiserror::Error)]
#[error("--version {version}: {} is a {found} model", model.display())]
struct OtherVersion {
    version: &'static str,
    model: PathBuf,
    found: &'static ModelFamily,
}

/// Refuses a model of another family than `--version` names.
///
/// # Errors
/// When it is one, or its configuration cannot be read.
pub fn check_family(model: LocalModel, named: &ModelFamily) -> Result<LocalModel> {
    let found = model.unet_config(DType::F32)?.family();
    if found != named {
        return Err(OtherVersion { version: named.extractor.version, model: model.path, found }.into());
    }
    Ok(model)
}

/// The UNet's sizes of a model of which nothing else is needed: from a hub, one small file is fetched.
///
/// # Errors
/// When it is neither here nor on the hub, or no model of Stable Diffusion 1 or 2.
pub fn unet_config_of(model: &str, console: &Console) -> Result<UnetConfig> {
    if Path::new(model).exists() {
        return Ok(UnetConfig::from_file(&ModelFiles::open(Path::new(model), None, false)?.config(Network::Unet))?);
    }
    let file = hub::download(model, "unet/config.json", &hub_options(None, DType::F32, console)).context("--model")?;
    Ok(UnetConfig::from_file(&file)?)
}

/// The folder of a ControlNet.
///
/// # Errors
/// When it is neither here nor on the hub.
pub fn find_controlnet(kind: &str, model: &str, dtype: DType, console: &Console) -> Result<PathBuf> {
    hub::resolve_controlnet(model, &hub_options(None, dtype, console)).with_context(|| format!("--control {kind}"))
}

fn hub_options(revision: Option<String>, dtype: DType, console: &Console) -> HubOptions {
    driftless_cli::hub::options(revision, dtype != DType::F32, console)
}
