//! Extraction, told on the terminal: what will be done, how far it is, how it ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use candle_core::DType;
use driftless::pipeline::ModelOptions;
use features::engine::Run;
use features::plan::{ControlChoice, Fault, RunPlan, Settings, both};
use features::set::PassKey;
use features::timings::Timings;
use features::{Event, Observer};

use crate::args::{DeviceChoice, ExtractArgs, Precision, from_name};
use crate::report::{Reporter, peak_rss_bytes};
use crate::{device, interrupt, model, request};

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
    let settings = request::from_args(args)?;
    let ((choice, dtype), plan) = both(hardware(args, &settings), RunPlan::new(&settings))?;
    let threads = set_threads(settings.threads)?;
    let device = device::open(choice)?;
    let dtype = dtype.unwrap_or_else(|| device::default_dtype(&device));
    let options = ModelOptions { dtype, device, base: None };
    let models = plan.models.try_map(|_, choice| model::find(choice, dtype, reporter))?;
    let run = Run::new(&plan, &models, &options)?;
    announce(&plan, &run, reporter);
    let controls = run.controls().into_iter();
    let folder = |(kind, choice): (&str, &ControlChoice)| {
        Ok((kind.to_owned(), model::find_controlnet(kind, &choice.model, dtype, reporter)?))
    };
    let controls = controls.map(folder).collect::<Result<BTreeMap<String, PathBuf>>>()?;
    let terminal = Terminal(Mutex::new(reporter));
    let outcome = run.execute(&controls, &timings, &terminal)?;
    if let Some(path) = &args.timings {
        timings.write(path, outcome.images, threads, peak_rss_bytes()).context("--timings")?;
    }
    let reporter = terminal.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(conclude(&plan, outcome, &timings, reporter))
}

/// Where to compute and in which type.
fn hardware(args: &ExtractArgs, settings: &Settings) -> Result<(DeviceChoice, Option<DType>), Fault> {
    if let Some(version) = args.version.as_deref().filter(|version| *version != "1-5") {
        return Err(Fault::usage(format!("--version {version}: driftless has Stable Diffusion 1.5 alone, --version 1-5")));
    }
    let dtype = match &settings.dtype {
        Some(name) => Some(from_name::<Precision>(name).map_err(|problem| Fault::failure(format!("dtype: {problem}")))?),
        None => None,
    };
    let device = match &settings.device {
        Some(name) => name.parse().map_err(|problem| Fault::failure(format!("device `{name}`: {problem}")))?,
        None => DeviceChoice::default(),
    };
    Ok((args.model.device.unwrap_or(device), args.model.dtype.or(dtype).map(Precision::dtype)))
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

fn announce(plan: &RunPlan, run: &Run, reporter: &Reporter) {
    let images = run.images();
    let mine = match plan.samples.len() == plan.image_count {
        true => format!("{} images", plan.image_count),
        false => format!("{} of {} images", plan.samples.len(), plan.image_count),
    };
    let there = match plan.samples.len() - images {
        0 => String::new(),
        done => format!(", {done} of them there already (--overwrite makes them anew)"),
    };
    let sets = match plan.sets.values().filter(|set| set.keep.written).count() + plan.fusions.len() {
        1 => String::new(),
        count => format!(", {count} feature sets"),
    };
    let bytes = run.bytes_per_image();
    let size = format!("{} per image, {} in all", size_text(bytes), size_text(bytes.saturating_mul(images as u64)));
    reporter.info(&format!("{mine}{there}{sets}; {size}"));
    for PassKey { t, denoising_from, .. } in plan.sets.values().map(|set| &set.pass) {
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

fn conclude(plan: &RunPlan, outcome: features::engine::Outcome, timings: &Timings, reporter: &Reporter) -> Outcome {
    if interrupt::requested() {
        reporter.info("stopped; every file that is there is whole; run the same command again to go on");
        return Outcome::Interrupted;
    }
    let written = outcome.images - outcome.failed.min(outcome.images);
    let seconds = timings.wall_seconds();
    reporter.info(&format!("{written} images written to {} in {seconds:.1} s", plan.output.dir.display()));
    match outcome.failed {
        0 => Outcome::Done,
        count => {
            reporter.error(&format!("{count} images failed; they are listed in {}", plan.failures.display()));
            Outcome::SomeFailed
        }
    }
}

/// Tells on the terminal what the run tells.
struct Terminal<'a>(Mutex<&'a mut Reporter>);

impl<'a> Terminal<'a> {
    fn reporter(&self) -> MutexGuard<'_, &'a mut Reporter> {
        // A reporter has no broken intermediate state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Terminal<'_> {
    fn event(&self, event: Event<'_>) {
        let mut reporter = self.reporter();
        let wrote = |image: &Path, layers: usize| format!("{}: {layers} layers", image.display());
        match event {
            Event::Began { images } => reporter.begin(images),
            Event::Advanced { images, failed } => reporter.advance(images, failed),
            Event::Wrote { image, layers } => reporter.detail(|| wrote(image, layers)),
            Event::Failed(problem) => reporter.error(problem),
            Event::Warning(problem) => reporter.warn(problem),
            Event::Ended => reporter.end(),
        }
    }

    fn wants_stop(&self) -> bool {
        interrupt::requested()
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
