//! TensorBoard event files under `--logging_dir`, with kohya's folder and scalar names.
//!
//! `tensorboard-rs` 0.5 panics where it cannot make its folder or file, so both are tried here first.

use super::metrics::Measurement;
use super::time;
use crate::options::RunOptions;
use crate::training::StepReport;
use anyhow::{Context, Result};
use driftless::vision::Rgb;
use tensorboard_rs::summary_writer::SummaryWriter;

/// The event file of a run.
pub struct TensorBoard {
    writer: SummaryWriter,
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
        let probe = folder.join(".probe");
        std::fs::write(&probe, "").with_context(named)?;
        std::fs::remove_file(&probe).with_context(named)?;
        Ok(Some(Self { writer: SummaryWriter::new(&folder) }))
    }

    /// A step's loss and rates.
    pub fn step(&mut self, report: &StepReport) {
        self.scalar("loss/current", report.loss, report.step);
        self.scalar("loss/average", report.loss_average, report.step);
        for (name, rate) in &report.rates {
            self.scalar(&format!("lr/{name}"), *rate, report.step);
        }
    }

    /// The average loss at the end of an epoch.
    pub fn epoch(&mut self, epoch: usize, average: f64) {
        self.scalar("loss/epoch_average", average, epoch);
        self.writer.flush();
    }

    /// A measurement on pictures that do not train, at the end of an epoch or after a step.
    pub fn validation(&mut self, measurement: &Measurement) {
        let (kind, at) = measurement.epoch.map_or(("step", measurement.step), |epoch| ("epoch", epoch));
        let divergence = measurement.validation_loss - measurement.training_loss;
        self.scalar(&format!("loss/validation/{kind}_average"), measurement.validation_loss, at);
        self.scalar(&format!("loss/validation/{kind}_divergence"), divergence, at);
        self.writer.flush();
    }

    /// A sample picture.
    pub fn picture(&mut self, name: &str, picture: &Rgb, step: usize) {
        // The library wants "CHW" and takes width, height and interleaved pixels.
        self.writer.add_image(name, &picture.pixels, &[3, picture.width, picture.height], step);
        self.writer.flush();
    }

    /// A number under a name.
    pub fn scalar(&mut self, name: &str, value: f64, step: usize) {
        self.writer.add_scalar(name, value as f32, step);
    }
}
