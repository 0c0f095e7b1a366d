//! States: folders from which a run goes on as if it had never stopped.
//!
//! | file | holds |
//! | --- | --- |
//! | `state.json` | position in the run, seed, losses of the moving average, and the configuration that the state belongs to |
//! | `adapter.safetensors` | the adapter's matrices, float32 |
//! | `optimiser.safetensors` | the optimizer's moments, float32 |
//! | `generator.bin` | the noise generator |
//!
//! The order of the data, captions and mirroring follow from seed, epoch and batch, the learning rate from the step, so nothing has to be
//! kept for them. The format is this program's own; accelerate's, which kohya writes, cannot be read by other programs either.

use super::average::LossAverage;
use super::trainer::{Position, Trainer};
use crate::model::Model;
use crate::optimizer::{Group, State};
use crate::options::identity::{self, Configuration, Difference};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use driftless::formats::{AtomicFolder, WeightFile, write_safetensors};
use driftless::rng::Generator;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What stands in `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    format: String,
    epoch: usize,
    batch: usize,
    step: usize,
    /// Seed of the run, which goes on with it.
    pub seed: u64,
    /// Steps of the optimizer; the name on disk is that of the first states.
    #[serde(rename = "optimiser_steps")]
    optimizer_steps: usize,
    losses: Vec<f32>,
    /// What the run was told to do.
    pub configuration: Configuration,
}

const FORMAT: &str = "driftless train state 1";
const RECORD: &str = "state.json";
const ADAPTER: &str = "adapter.safetensors";
const OPTIMIZER: &str = "optimiser.safetensors";
const GENERATOR: &str = "generator.bin";

/// Writes the state of `trainer` to `folder`, replacing what stood there once the new one is whole.
///
/// # Errors
/// When the optimizer does not tell its state, or the folder cannot be written.
pub fn write<M: Model>(trainer: &Trainer<M>, configuration: &Configuration, folder: &Path) -> Result<()> {
    let Some(state) = trainer.learner.optimizer.state() else {
        bail!("{} does not tell its state, so the run cannot be saved to go on later", trainer.learner.optimizer.description());
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
    write_safetensors(inside(ADAPTER), matrices(&trainer.learner.groups)?, &BTreeMap::new())?;
    write_safetensors(inside(OPTIMIZER), on_cpu(state.tensors)?, &BTreeMap::new())?;
    std::fs::write(inside(GENERATOR), trainer.learner.generator.state()).with_context(|| folder.display().to_string())?;
    std::fs::write(inside(RECORD), serde_json::to_vec_pretty(&record)?).with_context(|| folder.display().to_string())?;
    staging.commit()?;
    // At every moment one whole state stands under one of the two names.
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
        bail!("{}: is a state of kohya's trainer, which only that can read; start anew, or with --network_weights", named());
    }
    let bytes = std::fs::read(&path).with_context(named)?;
    let record: Record = serde_json::from_slice(&bytes).with_context(|| format!("{}: {RECORD} is damaged", named()))?;
    ensure!(record.format == FORMAT, "{}: is of the format `{}`, this program reads `{FORMAT}`", named(), record.format);
    Ok(record)
}

/// Puts the state in `folder` into `trainer`. Returns the settings that have changed and may.
///
/// # Errors
/// When the state is of another configuration, or damaged.
pub fn restore<M: Model>(
    trainer: &mut Trainer<M>,
    record: Record,
    configuration: &Configuration,
    folder: &Path,
) -> Result<Vec<Difference>> {
    let changed =
        identity::compare(&record.configuration, configuration).with_context(|| format!("--resume {}", folder.display()))?;
    let device = trainer.learner.model.device().clone();
    let adapter = WeightFile::open(folder.join(ADAPTER))?;
    for parameter in trainer.learner.groups.iter().flat_map(|group| &group.parameters) {
        let tensor = adapter.tensor(&parameter.key, &device)?;
        ensure!(
            tensor.dims() == parameter.var.dims() && tensor.dtype() == DType::F32,
            "--resume {}: `{}` has another shape; the state is of another network",
            folder.display(),
            parameter.key
        );
        parameter.var.set(&tensor)?;
    }
    let optimizer = WeightFile::open(folder.join(OPTIMIZER))?;
    let names: Vec<String> = optimizer.names().map(str::to_owned).collect();
    let tensors = names.into_iter().map(|name| Ok((name.clone(), optimizer.tensor(&name, &device)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    trainer.learner.optimizer.restore(State { steps: record.optimizer_steps, tensors })?;
    let generator = std::fs::read(folder.join(GENERATOR)).with_context(|| format!("--resume {}", folder.display()))?;
    trainer.learner.generator = Generator::from_state(&generator)?;
    trainer.position = Position { epoch: record.epoch, batch: record.batch, step: record.step };
    trainer.average = LossAverage::from_losses(record.losses);
    Ok(changed)
}

fn matrices(groups: &[Group]) -> driftless::Result<Vec<(String, Tensor)>> {
    let parameters = groups.iter().flat_map(|group| &group.parameters);
    on_cpu(parameters.map(|parameter| (parameter.key.clone(), parameter.var.as_detached_tensor())))
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
