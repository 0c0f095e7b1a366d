//! Extraction itself: one pass over the images for all feature sets.
//!
//! Order of events: everything that can be wrong is checked first, cheapest first; then the model is loaded; then the images go
//! through in batches, one thread reading the next batch (`loader`), one computing (`batch`), one writing the features before
//! (`writer`). They wait for each other, so that no more than a batch is read ahead and a set's features are waiting to be written.
//! What sets share is made once per batch (images, the autoencoder's posterior, condition images, passes of the network that
//! differ in nothing but what is kept) or once per run (prompts, adapters, ControlNets). Sets with models of their own come one model
//! after the other.
//!
//! A batch always holds the same images, whatever was there already and however the work is sharded, so that features come out equal
//! to the byte: shards take whole batches, and an image that is done is computed again beside one that is not, but not written.

mod adapters;
mod batch;
mod contexts;
mod engine;
mod failures;
mod images;
mod loader;
mod passes;
mod selection;
mod work;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use anyhow::{Context, Result};
use driftless::checkpoint::remove_stale;
use driftless::pipeline::ModelOptions;
use driftless::unet::UnetConfig;

use crate::args::{DeviceChoice, ExtractArgs};
use crate::model::ModelPlace;
use crate::outputs::OutputRule;
use crate::plan::{FeatureSet, ModelChoice, RunPlan};
use crate::report::{Reporter, Stage, Timings};
use crate::{device, interrupt};

use batch::Computing;
use engine::Engine;
use failures::Failures;
use loader::{Loader, READ_AHEAD, ReadBatch};
use selection::Selection;
use work::Batch;
use writer::{Job, Writer};

/// Beyond so many steps the original denoises in strides of ten, from a level that it takes for a hundredth.
const LARGEST_DENOISING: usize = 50;

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
    let timings = Timings::begin();
    let plan = RunPlan::new(args)?;
    let threads = set_threads(plan.threads)?;
    let options = model_options(&plan)?;
    let find = |(choice, _): &(ModelChoice, Vec<usize>)| ModelPlace::find(choice, &options, reporter);
    let places = plan.models.iter().map(find).collect::<Result<Vec<_>>>()?;
    let configs = places.iter().map(ModelPlace::unet_config).collect::<Result<Vec<_>>>()?;
    let selections = selection::select(&plan, &configs)?;
    let batches = work::batches(&plan, &selections);
    announce(&plan, &selections, &batches, reporter);
    let mut failures = Failures::begin(&plan.failures)?;
    remove_stale(work::folders(&plan, &selections, &batches).iter().map(PathBuf::as_path));
    let mut run = Run { plan: &plan, selections: &selections, options: &options, timings: &timings, failures: &mut failures };
    for ((place, config), (_, sets)) in places.iter().zip(&configs).zip(&plan.models) {
        let mine: Vec<Batch> = batches.iter().filter_map(|batch| batch.of_model(sets, &plan.fusions)).collect();
        if !mine.is_empty() && !interrupt::requested() {
            run.model(place, config, sets, &mine, reporter)?;
        }
    }
    let images = batches.iter().map(|batch| batch.pending_images()).sum();
    if let Some(path) = &plan.timings {
        timings.write(path, images, threads).context("--timings")?;
    }
    Ok(conclude(&plan.output, &failures, images, &timings, reporter))
}

fn model_options(plan: &RunPlan) -> Result<ModelOptions> {
    // Device and type are the run's; every model has the same.
    let choice = plan.models.first().map(|(choice, _)| choice);
    let device = device::open(choice.map_or_else(DeviceChoice::default, |choice| choice.device))?;
    let dtype = choice.and_then(|choice| choice.dtype).unwrap_or_else(|| device::default_dtype(&device));
    Ok(ModelOptions { dtype, device, base: None })
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
    for FeatureSet { t, denoising_from, .. } in &plan.sets {
        if let Some(from) = denoising_from.filter(|from| *from > t + LARGEST_DENOISING) {
            let why = format!("{from} is more than {LARGEST_DENOISING} above --t {t}");
            reporter
                .warn(&format!("--denoising-from {why}: as in the original, it begins at ten times that level, at most at 991"));
        }
    }
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
    options: &'a ModelOptions,
    timings: &'a Timings,
    failures: &'a mut Failures,
}

impl Run<'_> {
    /// All sets that one model computes.
    fn model(
        &mut self,
        place: &ModelPlace,
        config: &UnetConfig,
        numbers: &[usize],
        batches: &[Batch],
        reporter: &mut Reporter,
    ) -> Result<()> {
        let sets: Vec<&FeatureSet> = numbers.iter().map(|number| &self.plan.sets[*number]).collect();
        let passes = passes::passes(numbers, self.plan, self.selections, config)?;
        let start = Instant::now();
        let decodes = passes.iter().any(passes::Pass::vae_out);
        let engine = Engine::load(self.plan, &sets, place, self.options, decodes, reporter)?;
        self.timings.note(Stage::Load, start.elapsed().as_secs_f64());
        reporter.begin(batches.iter().map(Batch::pending_images).sum());
        let loader = Loader { plan: self.plan, kinds: engine::kinds(&sets), timings: self.timings };
        let computing =
            Computing { plan: self.plan, selections: self.selections, passes: &passes, engine, timings: self.timings };
        let result = self.threads(&loader, computing, batches, reporter);
        reporter.end();
        result
    }

    /// Reading, computing and writing, each on a thread of its own.
    fn threads(&mut self, loader: &Loader, computing: Computing, batches: &[Batch], reporter: &mut Reporter) -> Result<()> {
        std::thread::scope(|scope| {
            let (read, to_compute) = sync_channel(READ_AHEAD);
            // Nothing waits in between: features can be large.
            let (computed, jobs) = sync_channel(0);
            scope.spawn(move || loader.run(batches, &read));
            let failed_before = self.failures.count();
            let writer = Writer {
                plan: self.plan,
                timings: self.timings,
                failures: self.failures,
                reporter,
                sources: HashMap::new(),
                failed_before,
                jobs,
            };
            let writer = scope.spawn(move || writer.run());
            let computed = compute(computing, batches, to_compute, computed);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Where the writer gave up, that is why computing ended.
            written.and(computed)
        })
    }
}

/// Takes both ends, so that the other threads see when it is over.
fn compute<'a>(
    mut computing: Computing,
    batches: &[Batch<'a>],
    read: Receiver<ReadBatch>,
    out: SyncSender<Job<'a>>,
) -> Result<()> {
    for batch in batches {
        // Nothing more comes when the user stops the run.
        let Ok(images) = read.recv() else { break };
        if interrupt::requested() || !computing.batch(batch, images, &out)? {
            break;
        }
    }
    Ok(())
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
