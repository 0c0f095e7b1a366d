//! Everything that can be known, and refused, before the model is loaded.

use crate::data::{self, DataSet};
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
use anyhow::{Result, ensure};
use driftless::scheduler::SAMPLERS;
use std::collections::BTreeSet;

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
}

impl Plan {
    /// Checks everything that does not need the model, and tells what is noteworthy.
    ///
    /// # Errors
    /// When the run cannot be begun.
    pub fn new(parsed: Parsed, console: &Console) -> Result<Self> {
        parsed.warnings.iter().for_each(|warning| console.warn(warning));
        parsed.notices.iter().for_each(|notice| console.info(notice));
        let mut options = file::with_dimensions_of_file(&parsed.options)?;
        let network = NetworkSettings::new(&options)?;
        if !network.is_lora() && options.network.scale_weight_norms.take().is_some() {
            console.warn("--scale_weight_norms limits the norms of LoRA alone; with this algo it is left out");
        }
        Objective::new(&options)?;
        let optimizer = Choice::new(&options.optimization)?;
        optimizer.notice.iter().for_each(|notice| console.info(notice));
        let saves_state = options.output.save_state || options.output.save_state_on_train_end || options.output.resume.is_some();
        ensure!(
            optimizer.can_resume() || !saves_state,
            "--save_state and --resume need an optimizer that tells its state: --optimizer_type AdamW"
        );
        warn_of_small_rate(&parsed, console);
        check_samples(&options, console)?;
        let resume = options.output.resume.as_deref().map(state::read_record).transpose()?;
        let seed = seed(&options, resume.as_ref(), console)?;
        let data = DataSet::scan(data::plan(&options)?, seed)?;
        data.warnings.iter().for_each(|warning| console.warn(warning));
        if options.data.caches_latents() {
            Latents::check(&data)?;
        }
        let steps = Steps::new(&options, data.batches_per_epoch())?;
        Schedule::new(&options.optimization, steps.total)?;
        let names = Names::new(&options.output);
        ensure_not_finished(&options, &names)?;
        Ok(Self { options, data, steps, names, seed, resume })
    }
}

/// A finished adapter may have taken days.
fn ensure_not_finished(options: &Options, names: &Names) -> Result<()> {
    let (output, adapter) = (&options.output, names.adapter(When::End));
    ensure!(
        output.overwrite || output.resume.is_some() || !adapter.is_file(),
        "{} is there already; give another --output_name or --output_dir, --resume with a state to train it further, or --overwrite",
        adapter.display()
    );
    Ok(())
}

/// kohya's default rate is one for whole models, far too small for an adapter.
fn warn_of_small_rate(parsed: &Parsed, console: &Console) {
    let rates = ["learning_rate", "unet_lr", "text_encoder_lr"];
    if !rates.iter().any(|rate| parsed.given.iter().any(|given| given == rate)) {
        let rate = parsed.options.optimization.learning_rate;
        console.warn(format!("no learning rate is given; kohya's default {rate:e} hardly trains an adapter, 1e-4 is usual"));
    }
}

fn check_samples(options: &Options, console: &Console) -> Result<()> {
    let samples = &options.samples;
    let asked = samples.sample_at_first || samples.sample_every_n_epochs.is_some() || samples.sample_every_n_steps.is_some();
    if !asked {
        return Ok(());
    }
    let mut samplers = BTreeSet::from([samples.sample_sampler.clone()]);
    match samples.sample_prompts.as_deref().map(prompts::read) {
        None => console.warn("samples are asked for, but no --sample_prompts; none will be drawn"),
        Some(Ok(prompts)) => samplers.extend(prompts.into_iter().filter_map(|prompt| prompt.sampler)),
        // The file is read again for each drawing and may be mended meanwhile, so this is a warning.
        Some(Err(error)) => console.warn(format!("{error:#}")),
    }
    for name in samplers {
        if let Some(other) = samples::substitute(&name) {
            console.warn(format!("sampler {name} is not supported: its samples are drawn with {other}"));
        } else if !SAMPLERS.contains(&name.as_str()) {
            return Err(driftless::Error::unknown("sampler", &name, SAMPLERS.iter().copied()).into());
        }
    }
    Ok(())
}

fn seed(options: &Options, resume: Option<&Record>, console: &Console) -> Result<u64> {
    match (options.run.seed, resume) {
        (Some(seed), Some(record)) => {
            ensure!(
                seed == record.seed,
                "--seed is {seed}, but the state to resume is of seed {}; leave --seed out",
                record.seed
            );
            Ok(seed)
        }
        (None, Some(record)) => Ok(record.seed),
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
