//! How long each call of each stage took. Stages run at the same time (reading, computing, writing), each on one thread, so that their
//! sums can exceed the run's time, and a stage's calls stand in the order in which they happened.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use driftless::error::FileCause;
use driftless::formats::write_atomically;
use serde::Serialize;

/// A stage of the work, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the model.
    Load,
    /// Decoding and resizing an image.
    ReadImage,
    /// A prompt through the text encoder.
    EncodeText,
    /// A batch through the autoencoder.
    EncodeImage,
    /// A batch's condition images through a ControlNet's embedding.
    ControlHint,
    /// One call of all ControlNets.
    Controlnet,
    /// One call of the UNet.
    Unet,
    /// Writing an image's features of a set.
    Write,
}

/// Seconds per call.
#[derive(Clone, Debug, Default, Serialize)]
struct Stages {
    load: Vec<f64>,
    read_image: Vec<f64>,
    encode_text: Vec<f64>,
    encode_image: Vec<f64>,
    control_hint: Vec<f64>,
    controlnet: Vec<f64>,
    unet: Vec<f64>,
    write: Vec<f64>,
}

/// All calls of a run so far.
#[derive(Debug)]
pub struct Timings {
    began: Instant,
    stages: Mutex<Stages>,
}

#[derive(Serialize)]
struct Report<'a> {
    images: usize,
    wall_seconds: f64,
    peak_rss_bytes: Option<u64>,
    threads: usize,
    stages: &'a Stages,
}

impl Timings {
    /// Starts the clock.
    pub fn begin() -> Self {
        Self { began: Instant::now(), stages: Mutex::default() }
    }

    /// Seconds since the start.
    pub fn wall_seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Records a call.
    pub fn note(&self, stage: Stage, seconds: f64) {
        let mut stages = self.stages();
        let calls = match stage {
            Stage::Load => &mut stages.load,
            Stage::ReadImage => &mut stages.read_image,
            Stage::EncodeText => &mut stages.encode_text,
            Stage::EncodeImage => &mut stages.encode_image,
            Stage::ControlHint => &mut stages.control_hint,
            Stage::Controlnet => &mut stages.controlnet,
            Stage::Unet => &mut stages.unet,
            Stage::Write => &mut stages.write,
        };
        calls.push(seconds);
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        // A list of numbers has no broken intermediate state.
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs and records a call.
    pub fn measure<T>(&self, stage: Stage, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = call();
        self.note(stage, start.elapsed().as_secs_f64());
        result
    }

    /// Writes the report; the process's peak memory is the caller's to say.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path, images: usize, threads: usize, peak_rss_bytes: Option<u64>) -> driftless::Result<()> {
        let wall_seconds = self.wall_seconds();
        let report = Report { images, wall_seconds, peak_rss_bytes, threads, stages: &self.stages() };
        let wrong = |error: serde_json::Error| driftless::Error::file(path, FileCause::above(error), "this is a bug");
        let text = serde_json::to_string_pretty(&report).map_err(wrong)?;
        write_atomically(path, |file| file.write_bytes(format!("{text}\n").as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_contracts_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        let timings = Timings::begin();
        assert_eq!(timings.measure(Stage::Unet, || 3), 3);
        timings.note(Stage::Unet, 0.5);
        timings.write(&path, 7, 2, Some(1 << 21)).unwrap();
        let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((&report["images"], &report["threads"]), (&7.into(), &2.into()));
        assert!(report["wall_seconds"].is_f64() && report["peak_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
        let stages = report["stages"].as_object().unwrap();
        let names = ["load", "read_image", "encode_text", "encode_image", "control_hint", "controlnet", "unet", "write"];
        assert_eq!(stages.keys().map(String::as_str).collect::<Vec<_>>(), names);
        assert_eq!(stages["unet"][1], 0.5);
        assert_eq!(stages["load"], serde_json::json!([]));
    }
}
