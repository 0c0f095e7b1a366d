//! Extraction itself: one pass over the images for all feature sets.
//!
//! Order of events: everything that can be wrong is checked first, cheapest first; then the model is loaded; then the images go
//! through in batches. What sets share is made once per batch (pictures, the autoencoder's posterior, condition pictures) or once per
//! run (prompts, adapters, ControlNets).
//!
//! A batch always holds the same images, whatever was there already and however the work is sharded, so that features come out equal
//! to the byte: shards take whole batches, and an image that is done is computed again beside one that is not, but not written.

mod adapters;
mod batch;
mod contexts;
mod engine;
mod failures;
mod pictures;
mod selection;
mod work;

use std::time::Instant;

use anyhow::{Context, Result};
use driftless::pipeline::ModelOptions;

use crate::args::ExtractArgs;
use crate::model::ModelPlace;
use crate::outputs::OutputRule;
use crate::plan::RunPlan;
use crate::report::{Reporter, Stage, Timings};
use crate::{device, interrupt};

use engine::Engine;
use failures::Failures;
use selection::Selection;
use work::Batch;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is there.
    Done,
    /// Everything but some images, which are listed.
    SomeFailed,
    /// The user stopped it.
    Interrupted,
}

/// Extracts features.
///
/// # Errors
/// When the request is wrong, the model cannot be loaded, or a file cannot be written. An image that cannot be read is no error but
/// listed in the failures.
pub fn extract(args: &ExtractArgs, reporter: &mut Reporter) -> Result<Outcome> {
    let mut timings = Timings::begin();
    let plan = RunPlan::new(args)?;
    let threads = set_threads(plan.threads)?;
    let device = device::open(plan.model.device)?;
    let options = ModelOptions { dtype: plan.model.dtype.unwrap_or_else(|| device::default_dtype(&device)), device, base: None };
    let place = ModelPlace::find(&plan.model, &options, reporter)?;
    let selections = selection::select(&plan, &place.unet_config()?)?;
    let batches = work::batches(&plan, &selections);
    announce(&plan, &selections, &batches, reporter);
    let mut failures = Failures::begin(&plan.failures)?;
    if !batches.is_empty() {
        let start = Instant::now();
        let decodes = selections.iter().any(Selection::vae_out);
        let engine = Engine::load(&plan, &place, &options, decodes, reporter)?;
        timings.note(Stage::Load, start.elapsed().as_secs_f64());
        let mut run = Run { plan: &plan, selections: &selections, engine, timings: &mut timings, failures: &mut failures };
        run.all(&batches, reporter)?;
    }
    let images = batches.iter().map(|batch| batch.pending_images()).sum();
    if let Some(path) = &plan.timings {
        timings.write(path, images, threads).context("--timings")?;
    }
    Ok(conclude(&plan.output, &failures, images, &timings, reporter))
}

/// Sizes the pool that all kernels compute in; says how many threads there are.
///
/// # Errors
/// When the pool was made already.
pub fn set_threads(threads: Option<usize>) -> Result<usize> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("--threads")?;
    }
    Ok(rayon::current_num_threads())
}

fn announce(plan: &RunPlan, selections: &[Selection], batches: &[Batch], reporter: &Reporter) {
    let images: usize = batches.iter().map(Batch::pending_images).sum();
    let mine = match plan.samples.len() == plan.image_count {
        true => format!("{} images", plan.image_count),
        false => format!("{} of {} images", plan.samples.len(), plan.image_count),
    };
    let there = match plan.samples.len() - images {
        0 => String::new(),
        done => format!(", {done} of them there already (--overwrite makes them anew)"),
    };
    let sets = match plan.sets.iter().filter(|set| set.written).count() + plan.fusions.len() {
        1 => String::new(),
        count => format!(", {count} feature sets"),
    };
    let bytes = selection::bytes_per_image(plan, selections);
    let size = format!("{} per image, {} in all", size_text(bytes), size_text(bytes.saturating_mul(images as u64)));
    reporter.info(&format!("{mine}{there}{sets}; {size}"));
}

/// `12.3 MB`.
fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

fn conclude(output: &OutputRule, failures: &Failures, images: usize, timings: &Timings, reporter: &Reporter) -> Outcome {
    if interrupt::requested() {
        reporter.info("stopped; every file that is there is whole; run the same command again to go on");
        return Outcome::Interrupted;
    }
    let written = images - failures.count().min(images);
    let seconds = timings.wall_seconds();
    reporter.info(&format!("{written} images written to {} in {seconds:.1} s", output.dir.display()));
    match failures.count() {
        0 => Outcome::Done,
        count => {
            reporter.error(&format!("{count} images failed; they are listed in {}", failures.path().display()));
            Outcome::SomeFailed
        }
    }
}

/// A run in progress.
struct Run<'a> {
    plan: &'a RunPlan,
    selections: &'a [Selection],
    engine: Engine,
    timings: &'a mut Timings,
    failures: &'a mut Failures,
}

impl Run<'_> {
    fn all(&mut self, batches: &[Batch], reporter: &mut Reporter) -> Result<()> {
        reporter.begin(batches.iter().map(Batch::pending_images).sum());
        for batch in batches {
            if interrupt::requested() {
                break;
            }
            let failed_before = self.failures.count();
            self.batch(batch, reporter)?;
            reporter.advance(batch.pending_images(), self.failures.count() - failed_before);
        }
        reporter.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_text(999), "999 B");
        assert_eq!(size_text(1_234_567), "1.2 MB");
        assert_eq!(size_text(u64::MAX), "18446744.1 TB");
    }
}
