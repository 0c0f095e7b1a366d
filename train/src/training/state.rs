//! States: folders from which a run resumes as if it had never stopped.
//!
//! | file | holds |
//! | --- | --- |
//! | `state.json` | position in the run, seed, losses of the moving average, and the configuration that the state belongs to |
//! | `adapter.safetensors` | the adapter in float32, in kohya's layout: what loads an adapter loads it |
//! | `optimiser.safetensors` | the optimizer's moments, float32 |
//! | `generator.bin` | the noise generator |
//! | `alignment.safetensors` | with `--objective cleandift`: the heads and the student's timestep, under the original's keys |
//!
//! The order of the data, captions and mirroring follow from seed, epoch and batch, and the learning rate from the step, so nothing has
//! to be saved for them. The format is this program's own; accelerate's, which kohya writes, cannot be read by other programs either. States of
//! the first format, whose adapter had names of its own, are read too.

use super::average::LossAverage;
use super::trainer::{Position, Trainer};
use crate::model::Model;
use crate::optimizer::{Group, State};
use crate::options::identity::{self, Configuration, Difference};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use driftless::formats::{AtomicFolder, FileKind, WeightFile, read_bounded, write_safetensors};
use driftless::rng::Generator;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The contents of `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    format: String,
    epoch: usize,
    batch: usize,
    step: usize,
    /// Seed of the run, which a resumed run keeps.
    pub seed: u64,
    /// Steps of the optimizer; the name on disk is that of the first states.
    #[serde(rename = "optimiser_steps")]
    optimizer_steps: usize,
    losses: Vec<f32>,
    /// The options of the run that decide on its result.
    pub configuration: Configuration,
}

/// Why a state cannot be written or read.
#[derive(Debug, thiserror::Error)]
enum StateFault {
    #[error("{optimizer} does not tell its state, so the run cannot be saved to go on later")]
    NotTold { optimizer: String },
    #[error("--resume {}: is a state of kohya's trainer, which only that can read; start anew, or with --network_weights", folder.display())]
    Kohyas { folder: PathBuf },
    #[error("--resume {}: is of the format `{found}`, this program reads `{FORMAT}`", folder.display())]
    Format { folder: PathBuf, found: String },
    #[error("`{key}` has another shape; the state is of another network")]
    Shape { key: String },
}

const FORMAT: &str = "driftless train state 2";
/// The first format, whose adapter is stored under the names of the parameters, which no other program reads.
const FIRST_FORMAT: &str = "driftless train state 1";
const RECORD: &str = "state.json";
const ADAPTER: &str = "adapter.safetensors";
const OPTIMIZER: &str = "optimiser.safetensors";
const GENERATOR: &str = "generator.bin";
const ALIGNMENT: &str = "alignment.safetensors";

/// Writes the state of `trainer` to `folder`, replacing the old state once the new one is complete; `adapter` writes the adapter's file.
///
/// # Errors
/// When the optimizer does not tell its state, or the folder cannot be written.
pub fn write<M: Model>(
    trainer: &Trainer<M>,
    configuration: &Configuration,
    folder: &Path,
    adapter: impl FnOnce(&Path) -> driftless::Result<()>,
) -> Result<()> {
    let Some(state) = trainer.learner.optimizer.state() else {
        return Err(StateFault::NotTold { optimizer: trainer.learner.optimizer.description() }.into());
    };
    let Position { epoch, batch, step } = trainer.position;
    let record = Record {
        format: FORMAT.into(),
        epoch,
        batch,
        step,
        seed: trainer.source.seed,
        optimizer_steps: state.steps,
        losses: trainer.average.losses().to_vec(),
        configuration: configuration.clone(),
    };
    let fresh = suffixed(folder, "-new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
    }
    let staging = AtomicFolder::create(&fresh)?;
    let inside = |name: &str| staging.path().join(name);
    adapter(&inside(ADAPTER))?;
    write_safetensors(inside(OPTIMIZER), on_cpu(state.tensors)?, &BTreeMap::new())?;
    if let Some(alignment) = &trainer.learner.alignment {
        let parameters = alignment.group().parameters.into_iter();
        let tensors = parameters.map(|parameter| (parameter.key, parameter.var.as_detached_tensor()));
        write_safetensors(inside(ALIGNMENT), on_cpu(tensors)?, &BTreeMap::new())?;
    }
    std::fs::write(inside(GENERATOR), trainer.learner.generator.state()).with_context(|| folder.display().to_string())?;
    std::fs::write(inside(RECORD), serde_json::to_vec_pretty(&record)?).with_context(|| folder.display().to_string())?;
    staging.commit()?;
    // At every moment a complete state exists under one of the two names.
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::rename(&fresh, folder).with_context(|| folder.display().to_string())?;
    Ok(())
}

/// Reads `state.json`.
///
/// # Errors
/// When the folder is no state of this program.
pub fn read_record(folder: &Path) -> Result<Record> {
    let path = folder.join(RECORD);
    let named = || format!("--resume {}", folder.display());
    if folder.join("train_state.json").exists() && !path.exists() {
        return Err(StateFault::Kohyas { folder: folder.to_owned() }.into());
    }
    let bytes = read_bounded(&path, FileKind::List).with_context(named)?;
    let record: Record = serde_json::from_slice(&bytes).with_context(|| format!("{}: {RECORD} is damaged", named()))?;
    match record.format.as_str() {
        FORMAT | FIRST_FORMAT => Ok(record),
        found => Err(StateFault::Format { folder: folder.to_owned(), found: found.to_owned() }.into()),
    }
}

/// Puts the state in `folder` into `trainer`; `adapter` gives the trained matrices the values of the adapter's file. Returns the
/// settings that have changed and may.
///
/// # Errors
/// When the state is of another configuration, or damaged.
pub fn restore<M: Model>(
    trainer: &mut Trainer<M>,
    record: Record,
    configuration: &Configuration,
    folder: &Path,
    adapter: impl FnOnce(&Path) -> Result<()>,
) -> Result<Vec<Difference>> {
    let named = || format!("--resume {}", folder.display());
    let changed = identity::compare(&record.configuration, configuration).with_context(named)?;
    let device = trainer.learner.model.device().clone();
    match record.format == FIRST_FORMAT {
        true => restore_by_key(&trainer.learner.groups, &folder.join(ADAPTER), &device).with_context(named)?,
        false => adapter(&folder.join(ADAPTER)).with_context(named)?,
    }
    if let Some(alignment) = &trainer.learner.alignment {
        restore_by_key(&[alignment.group()], &folder.join(ALIGNMENT), &device).with_context(named)?;
    }
    let optimizer = WeightFile::open(folder.join(OPTIMIZER))?;
    let names: Vec<String> = optimizer.names().map(str::to_owned).collect();
    let tensors = names.into_iter().map(|name| Ok((name.clone(), optimizer.tensor(&name, &device)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    trainer.learner.optimizer.restore(State { steps: record.optimizer_steps, tensors })?;
    let generator = read_bounded(folder.join(GENERATOR), FileKind::ShortText).with_context(named)?;
    trainer.learner.generator = Generator::from_state(&generator)?;
    trainer.position = Position { epoch: record.epoch, batch: record.batch, step: record.step };
    trainer.average = LossAverage::from_losses(record.losses);
    Ok(changed)
}

/// The adapter of a state of the first format.
fn restore_by_key(groups: &[Group], path: &Path, device: &Device) -> Result<()> {
    let file = WeightFile::open(path)?;
    for parameter in groups.iter().flat_map(|group| &group.parameters) {
        let tensor = file.tensor(&parameter.key, device)?;
        if tensor.dims() != parameter.var.dims() || tensor.dtype() != DType::F32 {
            return Err(StateFault::Shape { key: parameter.key.clone() }.into());
        }
        parameter.var.set(&tensor)?;
    }
    Ok(())
}

fn on_cpu(tensors: impl IntoIterator<Item = (String, Tensor)>) -> driftless::Result<Vec<(String, Tensor)>> {
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?))).collect()
}

fn suffixed(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_folders_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(format!("{:#}", read_record(folder.path()).unwrap_err()).contains("--resume"));
        std::fs::write(folder.path().join("train_state.json"), "{}").unwrap();
        assert!(read_record(folder.path()).unwrap_err().to_string().contains("kohya"));
        std::fs::write(folder.path().join(RECORD), "{").unwrap();
        assert!(read_record(folder.path()).unwrap_err().to_string().contains("damaged"));
    }
}
