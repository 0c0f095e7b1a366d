//! `metrics.jsonl`: one JSON object per optimizer step; `validation.jsonl`: one per measurement on images that do not train.

use crate::steps::StepReport;
use anyhow::{Context, Result};
use driftless_cli::memory::peak_rss_bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The loss on images that do not train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Optimizer steps done.
    pub step: usize,
    /// Epochs done, when it was measured at the end of one.
    pub epoch: Option<usize>,
    /// The moving average of the training loss at that time.
    pub training_loss: f64,
    /// The loss on the images that do not train.
    pub validation_loss: f64,
    /// The same at each of `--validation_timesteps`; nothing where these were not given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_timestep: BTreeMap<usize, f64>,
}

/// The file, open for appending.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Begins the file in `folder`. Lines up to step `done` of a run that goes on are kept, later ones belong to a future that did not
    /// come.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(folder: &Path, done: usize) -> Result<Self> {
        Self::open_named(folder, "metrics.jsonl", done, |line| belongs(line, done))
    }

    /// The same for validation, and what was measured before. What was measured at the end of an epoch after the first `epochs` goes:
    /// the run that wrote it had ended before the epoch did, and this one trains the rest.
    ///
    /// # Errors
    /// As [`Metrics::open`].
    pub fn open_validation(folder: &Path, done: usize, epochs: usize) -> Result<(Self, Vec<Measurement>)> {
        let read = |line: &str| -> Option<Measurement> { serde_json::from_str(line).ok() };
        let belongs =
            |line: &str| read(line).is_some_and(|one| one.step <= done && one.epoch.is_none_or(|epoch| epoch <= epochs));
        let log = Self::open_named(folder, "validation.jsonl", done, belongs)?;
        let text = std::fs::read_to_string(&log.path).with_context(|| log.path.display().to_string())?;
        Ok((log, text.lines().filter_map(read).collect()))
    }

    fn open_named(folder: &Path, name: &str, done: usize, belongs: impl Fn(&str) -> bool) -> Result<Self> {
        let path = folder.join(name);
        let named = || path.display().to_string();
        let kept = match std::fs::read_to_string(&path) {
            Ok(text) if done > 0 => text.lines().filter(|line| belongs(line)).map(|line| format!("{line}\n")).collect(),
            _ => String::new(),
        };
        driftless::formats::write_atomically(&path, |file| file.write_bytes(kept.as_bytes()))?;
        let file = OpenOptions::new().append(true).open(&path).with_context(named)?;
        Ok(Self { path, file })
    }

    /// Appends a step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn step(&mut self, report: &StepReport) -> Result<()> {
        let rates: Map<String, Value> = report.rates.iter().map(|(name, rate)| (name.clone(), json!(rate))).collect();
        let line = json!({
            "step": report.step,
            "epoch": report.epoch,
            "loss": report.loss,
            "loss_average": report.loss_average,
            "lr": rates,
            "gradient_norm": report.gradient_norm,
            "seconds": report.seconds,
            "peak_rss_bytes": peak_rss_bytes(),
        });
        self.line(&line)
    }

    /// Appends a measurement.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn measurement(&mut self, measurement: &Measurement) -> Result<()> {
        self.line(&json!(measurement))
    }

    fn line(&mut self, line: &Value) -> Result<()> {
        // One write per line, so that a line is there whole or not at all.
        self.file.write_all(format!("{line}\n").as_bytes()).with_context(|| self.path.display().to_string())
    }
}

fn belongs(line: &str, done: usize) -> bool {
    let step = serde_json::from_str::<Value>(line).ok().and_then(|line| line["step"].as_u64());
    step.is_some_and(|step| step <= done as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: usize) -> StepReport {
        StepReport {
            step,
            epoch: 1,
            loss: Some(0.5),
            loss_average: 0.25,
            rates: vec![("textencoder".into(), 5e-5), ("unet".into(), 1e-4)],
            gradient_norm: 2.0,
            seconds: 0.1,
        }
    }

    fn steps(folder: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect()
    }

    #[test]
    fn a_run_that_goes_on_keeps_its_past() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0).unwrap();
        (1..=4).for_each(|step| metrics.step(&report(step)).unwrap());
        let line = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let line: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        assert_eq!(line["lr"]["unet"], 1e-4);
        assert_eq!(line["loss_average"], 0.25);

        let mut metrics = Metrics::open(folder.path(), 2).unwrap();
        metrics.step(&report(3)).unwrap();
        assert_eq!(steps(folder.path()), [1, 2, 3]);
        Metrics::open(folder.path(), 0).unwrap();
        assert!(steps(folder.path()).is_empty(), "a new run begins a new file");
    }
}
