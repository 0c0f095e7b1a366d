//! Everything that can be known, and refused, before the model is loaded.

use super::fault::RunFault;
use super::readiness;
use crate::data::plan::DataPlan;
use crate::data::{self, DataSet};
use crate::faults::Faults;
use crate::model::skeleton::Skeleton;
use crate::monitor::Console;
use crate::network::{NetworkSettings, file};
use crate::objective::Objective;
use crate::optimizer::choice::Choice;
use crate::optimizer::schedule::Schedule;
use crate::options::Options;
use crate::options::arguments::Parsed;
use crate::output::{Names, When};
use crate::samples::{self, prompts};
use crate::steps::Steps;
use crate::training::latents::Latents;
use crate::training::state::{self, Record};
use anyhow::Result;
use driftless::scheduler::SAMPLERS;
use driftless_cli::{Progress, Unit};
use std::collections::BTreeSet;

const IMAGES: Unit = Unit::new("image read", "images read");

/// A run that can be begun.
pub struct Plan {
    /// What was asked for; with `--dim_from_weights`, rank and alpha of the file.
    pub options: Options,
    /// What there is to train on.
    pub data: DataSet,
    /// How long the run is.
    pub steps: Steps,
    /// Names of files.
    pub names: Names,
    /// Seed of the run.
    pub seed: u64,
    /// The state to go on from.
    pub resume: Option<Record>,
    /// The networks without their numbers.
    pub skeleton: Skeleton,
}

impl Plan {
    /// Checks everything that can be known before the model is loaded, and tells what is noteworthy.
    ///
    /// # Errors
    /// All that keeps the run from being begun, together.
    pub fn new(parsed: Parsed, console: &Console) -> Result<Self> {
        parsed.warnings.iter().for_each(|warning| console.warn(warning));
        parsed.notices.iter().for_each(|notice| console.info(notice));
        let mut faults = Faults::default();
        let with_dimensions = faults.keep(file::with_dimensions_of_file(&parsed.options));
        let mut options = with_dimensions.unwrap_or_else(|| parsed.options.clone());
        let network = faults.keep(NetworkSettings::new(&options));
        let is_lora = network.as_ref().is_none_or(NetworkSettings::is_lora);
        if !is_lora && options.network.scale_weight_norms.take().is_some() {
            console.warn("--scale_weight_norms limits the norms of LoRA alone; with this algo it is left out");
        }
        faults.keep(Objective::new(&options));
        if let Some(optimizer) = faults.keep(Choice::new(&options.optimization)) {
            optimizer.notice.iter().for_each(|notice| console.info(notice));
            faults.keep(ensure_can_resume(&options, &optimizer));
        }
        warn_of_small_rate(&parsed, console);
        check_samples(&options, console, &mut faults);
        let resume = options.output.resume.as_deref().and_then(|folder| faults.keep(state::read_record(folder)));
        let seed = faults.keep(seed(&options, resume.as_ref(), console));
        let data = faults.keep(data::plan(&options).and_then(|plan| looked_at(plan, seed.unwrap_or_default(), console)));
        let steps = data.as_ref().and_then(|data| {
            data.warnings.iter().for_each(|warning| console.warn(warning));
            if options.data.caches_latents() {
                faults.keep(Latents::check(data));
            }
            faults.keep(Steps::new(&options, data.batches_per_epoch()))
        });
        let total = steps.map_or(options.optimization.max_train_steps, |steps| steps.total);
        faults.keep(Schedule::new(&options.optimization, total));
        let names = Names::new(&options.output);
        faults.keep(ensure_not_finished(&options, &names));
        readiness::folders(&options, &mut faults);
        let skeleton = readiness::model(&options, network.as_ref(), console, &mut faults);
        faults.check()?;
        match (data, steps, seed, skeleton) {
            (Some(data), Some(steps), Some(seed), Some(skeleton)) => {
                Ok(Self { options, data, steps, names, seed, resume, skeleton })
            }
            // What is missing has left a fault.
            _ => Err(RunFault::NotPlanned.into()),
        }
    }
}

/// The data set with every image decoded, which for large ones takes minutes.
fn looked_at(plan: DataPlan, seed: u64, console: &Console) -> Result<DataSet> {
    let progress = Progress::new(console.shared(), IMAGES, plan.count_images());
    DataSet::scan_telling(plan, seed, &|| progress.advance(1))
}

fn ensure_can_resume(options: &Options, optimizer: &Choice) -> Result<(), RunFault> {
    let output = &options.output;
    let saves_state = output.save_state || output.save_state_on_train_end || output.resume.is_some();
    if saves_state && !optimizer.can_resume() { Err(RunFault::NoState) } else { Ok(()) }
}

/// A finished adapter may have taken days.
fn ensure_not_finished(options: &Options, names: &Names) -> Result<(), RunFault> {
    let (output, adapter) = (&options.output, names.adapter(When::End));
    let may_be_there = output.overwrite || output.resume.is_some();
    if !may_be_there && adapter.is_file() { Err(RunFault::Finished { adapter }) } else { Ok(()) }
}

/// kohya's default rate is one for whole models, far too small for an adapter.
fn warn_of_small_rate(parsed: &Parsed, console: &Console) {
    let rates = ["learning_rate", "unet_lr", "text_encoder_lr"];
    if !rates.iter().any(|rate| parsed.given.iter().any(|given| given == rate)) {
        let rate = parsed.options.optimization.learning_rate;
        console.warn(format!("no learning rate is given; kohya's default {rate:e} hardly trains an adapter, 1e-4 is usual"));
    }
}

fn check_samples(options: &Options, console: &Console, faults: &mut Faults) {
    let samples = &options.samples;
    let asked = samples.sample_at_first || samples.sample_every_n_epochs.is_some() || samples.sample_every_n_steps.is_some();
    let mut samplers = BTreeSet::from([samples.sample_sampler.clone()]);
    match &samples.sample_prompts {
        None if asked => console.warn("samples are asked for, but no --sample_prompts; none will be drawn"),
        None => {}
        Some(file) => {
            if !asked {
                console.warn(
                    "--sample_prompts: nothing says when to draw them; see --sample_every_n_epochs and --sample_every_n_steps",
                );
            }
            let prompts = faults.keep(prompts::read(file)).unwrap_or_default();
            samplers.extend(prompts.into_iter().filter_map(|prompt| prompt.sampler));
        }
    }
    for name in samplers.iter().filter(|_| asked) {
        if let Some(other) = samples::substitute(name) {
            console.warn(format!("sampler {name} is not supported: its samples are drawn with {other}"));
        } else if !SAMPLERS.contains(&name.as_str()) {
            faults.push(driftless::Error::unknown("sampler", name, SAMPLERS.iter().copied()));
        }
    }
}

fn seed(options: &Options, resume: Option<&Record>, console: &Console) -> Result<u64, RunFault> {
    match (options.run.seed, resume) {
        (Some(seed), Some(record)) if seed != record.seed => Err(RunFault::OtherSeed { expected: record.seed, found: seed }),
        (_, Some(record)) => Ok(record.seed),
        (Some(seed), None) => Ok(seed),
        (None, None) => {
            let seed = random_seed();
            console.info(format!("seed {seed} (chosen at random; give --seed {seed} to repeat this run)"));
            Ok(seed)
        }
    }
}

/// Not predictable, but no more is asked of it: below 2^32, as the generator uses no more bits.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}
