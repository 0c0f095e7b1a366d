//! TensorBoard event files under `--logging_dir`, with kohya's folder and scalar names. Where a disk is full the log ends, and the run
//! goes on.

use super::event_file::EventFile;
use super::metrics::Measurement;
use super::time;
use crate::options::RunOptions;
use crate::steps::StepReport;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The event file of a run.
#[derive(Debug)]
pub struct TensorBoard {
    /// Gone once it could not be written.
    file: Option<EventFile>,
}

impl TensorBoard {
    /// Begins a run folder, `--logging_dir`/`--log_prefix` and the date/`network_train`; `None` without `--logging_dir`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn open(options: &RunOptions) -> Result<Option<Self>> {
        let Some(parent) = &options.logging_dir else { return Ok(None) };
        let run = format!("{}{}", options.log_prefix.as_deref().unwrap_or_default(), time::compact(time::now()));
        let folder = parent.join(run).join("network_train");
        let named = || format!("--logging_dir {}", folder.display());
        std::fs::create_dir_all(&folder).with_context(named)?;
        let file = EventFile::create(&free_name(&folder), time::precisely()).with_context(named)?;
        Ok(Some(Self { file: Some(file) }))
    }

    /// Whether the log has ended before the run.
    pub fn is_lost(&self) -> bool {
        self.file.is_none()
    }

    fn write(&mut self, write: impl FnOnce(&mut EventFile, f64) -> std::io::Result<()>) {
        // A record that was cut short is where readers stop, so nothing may follow it.
        self.file = self.file.take().and_then(|mut file| write(&mut file, time::precisely()).map(|()| file).ok());
    }

    /// A step's loss and rates.
    pub fn step(&mut self, report: &StepReport) {
        if let Some(loss) = report.loss {
            self.scalar("loss/current", loss, report.step);
        }
        self.scalar("loss/average", report.loss_average, report.step);
        for (name, rate) in &report.rates {
            self.scalar(&format!("lr/{name}"), *rate, report.step);
        }
    }

    /// The average loss at the end of an epoch.
    pub fn epoch(&mut self, epoch: usize, average: f64) {
        self.scalar("loss/epoch_average", average, epoch);
    }

    /// A measurement on images that do not train, at the end of an epoch or after a step.
    pub fn validation(&mut self, measurement: &Measurement) {
        let (kind, at) = measurement.epoch.map_or(("step", measurement.step), |epoch| ("epoch", epoch));
        let divergence = measurement.validation_loss - measurement.training_loss;
        self.scalar(&format!("loss/validation/{kind}_average"), measurement.validation_loss, at);
        self.scalar(&format!("loss/validation/{kind}_divergence"), divergence, at);
        for (timestep, loss) in &measurement.by_timestep {
            self.scalar(&format!("loss/validation/{kind}_t{timestep}"), *loss, at);
        }
    }

    /// A sample image of this width and height, from its PNG file.
    pub fn image(&mut self, name: &str, size: (usize, usize), file: &Path, step: usize) {
        self.write(|events, now| events.image(name, size, std::fs::read(file)?, step, now));
    }

    /// A number under a name.
    pub fn scalar(&mut self, name: &str, value: f64, step: usize) {
        self.write(|events, now| events.scalar(name, value as f32, step, now));
    }
}

/// The name of a file that no other run has: two may begin in the same second.
fn free_name(folder: &Path) -> PathBuf {
    folder.join(format!("events.out.tfevents.{:010}.driftless.{}", time::now(), std::process::id()))
}
