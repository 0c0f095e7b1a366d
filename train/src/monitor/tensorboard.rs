//! TensorBoard event files under `--logging_dir`, with kohya's folder and scalar names.
//!
//! `tensorboard-rs` 0.5 panics where it cannot make its folder or file, so both are tried here first; and where a disk is full, in which
//! case the log ends and the run goes on.

use super::metrics::Measurement;
use super::time;
use crate::options::RunOptions;
use crate::steps::StepReport;
use anyhow::{Context, Result};
use driftless::vision::Rgb;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tensorboard_rs::summary_writer::SummaryWriter;

/// The event file of a run.
pub struct TensorBoard {
    /// Gone once it could not write.
    writer: Option<SummaryWriter>,
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
        silence_its_panics();
        Ok(Some(Self { writer: Some(SummaryWriter::new(&folder)) }))
    }

    /// Whether the log has ended before the run.
    pub fn is_lost(&self) -> bool {
        self.writer.is_none()
    }

    fn guarded(&mut self, work: impl FnOnce(&mut SummaryWriter)) {
        let Some(writer) = &mut self.writer else { return };
        if catch_unwind(AssertUnwindSafe(|| work(writer))).is_err() {
            // Dropped, it would panic once more.
            std::mem::forget(self.writer.take());
        }
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
        self.guarded(SummaryWriter::flush);
    }

    /// A measurement on images that do not train, at the end of an epoch or after a step.
    pub fn validation(&mut self, measurement: &Measurement) {
        let (kind, at) = measurement.epoch.map_or(("step", measurement.step), |epoch| ("epoch", epoch));
        let divergence = measurement.validation_loss - measurement.training_loss;
        self.scalar(&format!("loss/validation/{kind}_average"), measurement.validation_loss, at);
        self.scalar(&format!("loss/validation/{kind}_divergence"), divergence, at);
        self.guarded(SummaryWriter::flush);
    }

    /// A sample image.
    pub fn image(&mut self, name: &str, image: &Rgb, step: usize) {
        // The library wants "CHW" and takes width, height and interleaved pixels.
        self.guarded(|writer| writer.add_image(name, &image.pixels, &[3, image.width, image.height], step));
        self.guarded(SummaryWriter::flush);
    }

    /// A number under a name.
    pub fn scalar(&mut self, name: &str, value: f64, step: usize) {
        self.guarded(|writer| writer.add_scalar(name, value as f32, step));
    }
}

impl Drop for TensorBoard {
    fn drop(&mut self) {
        let writer = self.writer.take();
        // Its own drop waits for the thread that writes, which may have ended in a panic.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(writer)));
    }
}

/// Its panics are caught and told in a sentence; what Rust prints of them would be a second one.
fn silence_its_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("tensorboard-rs")) {
            usual(panic);
        }
    }));
}
